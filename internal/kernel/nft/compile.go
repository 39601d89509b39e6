package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// firstRegister is the first of the 4-byte registers; a concatenation of keys
// takes them in a row, each key from a register of its own.
const firstRegister = unix.NFT_REG32_00

// compile turns one rule in nft's language, as far as package firewall speaks
// it, into the kernel's expressions for a table of a family; sets gives the ID of
// each set by its name. It makes of a rule what nft makes of it.
func compile(rule string, family nftables.TableFamily, sets map[string]uint32) ([]expr.Any, error) {
	c := compiler{rest: rule, family: family, sets: sets}
	if family == nftables.TableFamilyIPv4 { // which has no other packets
		c.nfproto = unix.NFPROTO_IPV4
	}
	for c.rest != "" {
		if err := c.statement(); err != nil {
			return nil, fmt.Errorf("rule %q: %w", rule, err)
		}
	}
	return c.out, nil
}

type compiler struct {
	rest    string
	family  nftables.TableFamily
	sets    map[string]uint32
	out     []expr.Any
	nfproto byte // what the packet is known to be by now
	l4proto byte
}

func (c *compiler) emit(e ...expr.Any) { c.out = append(c.out, e...) }

// accept consumes the words of text if they come next.
func (c *compiler) accept(text string) bool {
	rest, ok := strings.CutPrefix(c.rest+" ", text+" ")
	if ok {
		c.rest = strings.TrimSuffix(rest, " ")
	}
	return ok
}

// word consumes the next word.
func (c *compiler) word() string {
	word, rest, _ := strings.Cut(c.rest, " ")
	c.rest = rest
	return word
}

// statement compiles one action or one match.
func (c *compiler) statement() error {
	switch {
	case c.accept("counter"):
		c.emit(&expr.Counter{})
	case c.accept("accept"):
		c.emit(&expr.Verdict{Kind: expr.VerdictAccept})
	case c.accept("drop"):
		c.emit(&expr.Verdict{Kind: expr.VerdictDrop})
	case c.accept("return"):
		c.emit(&expr.Verdict{Kind: expr.VerdictReturn})
	case c.accept("goto"):
		c.emit(&expr.Verdict{Kind: expr.VerdictGoto, Chain: c.word()})
	case c.accept("masquerade"):
		c.emit(&expr.Masq{})
	case c.accept("dnat ip to"):
		return c.nat(expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegProtoMin: firstRegister + uint32(registers(4))})
	case c.accept("dnat ip6 to"):
		return c.nat(expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV6, RegProtoMin: firstRegister + uint32(registers(16))})
	case c.accept("snat ip to"):
		return c.nat(expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4})
	case c.accept("snat ip6 to"):
		return c.nat(expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV6})
	case c.accept("meta mark set meta mark |"):
		return c.setMark()
	case c.accept("update"):
		return c.update()
	case c.accept("log prefix"):
		return c.log()
	default:
		return c.match()
	}
	return nil
}

// match compiles a comparison of keys with a set, or of one key with a value.
func (c *compiler) match() error {
	loaded, err := c.load()
	if err != nil {
		return err
	}
	if len(loaded) == 1 && c.accept("set") {
		return c.rewrite(loaded[0])
	}
	not := c.accept("!=")
	word := c.word()
	if set, named := strings.CutPrefix(word, "@"); named {
		id, err := c.set(set)
		if err != nil {
			return err
		}
		c.emit(&expr.Lookup{SourceRegister: firstRegister, SetName: set, SetID: id, Invert: not})
		return nil
	}
	if len(loaded) != 1 {
		return fmt.Errorf("a comparison with %q is not known here", word)
	}
	if word == "&" {
		return c.compareMasked(loaded[0], c.word())
	}
	if word == "==" {
		word = c.word()
	}
	return c.compare(loaded[0], word, not)
}

// load compiles the loading of keys into registers, one after the other.
func (c *compiler) load() ([]key, error) {
	var loaded []key
	for {
		k, err := c.key()
		if err != nil {
			return nil, err
		}
		loaded = append(loaded, k)
		if !c.accept(".") {
			break
		}
	}
	for _, k := range loaded {
		c.require(k)
	}
	register := uint32(firstRegister)
	for _, k := range loaded {
		c.emit(k.load(register))
		register += uint32(registers(k.size))
	}
	return loaded, nil
}

func (c *compiler) key() (key, error) {
	for _, k := range keys {
		if c.accept(k.name) {
			return k, nil
		}
	}
	return key{}, fmt.Errorf("%q is no key or statement", c.rest)
}

// require emits the checks without which a key would be read from a packet
// that does not have it.
func (c *compiler) require(k key) {
	if k.nfproto != 0 && c.nfproto != k.nfproto {
		if c.family == nftables.TableFamilyBridge { // which knows frames
			c.emit(&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: firstRegister}, equal(etherTypes[k.nfproto]))
		} else {
			c.emit(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: firstRegister}, equal([]byte{k.nfproto}))
		}
		c.nfproto = k.nfproto
	}
	if k.l4proto != 0 && c.l4proto != k.l4proto {
		c.emit(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: firstRegister}, equal([]byte{k.l4proto}))
		c.l4proto = k.l4proto
	}
}

// compare compiles a comparison of a loaded key with a value.
func (c *compiler) compare(k key, value string, not bool) error {
	if k.name == "ct state" || k.name == "ct status" {
		return c.compareBits(k, value, not)
	}
	prefix := k.size
	if rest, open := strings.CutSuffix(value, `*"`); open && k.name == "iifname" { // "v6nv*": so it begins
		value, prefix = rest+`"`, len(rest)-1
	}
	if k.nfproto != 0 && strings.HasPrefix(k.name, "ip") && strings.HasSuffix(k.name, "addr") || strings.HasSuffix(k.name, "addr ip") {
		return c.comparePrefix(k, value, not)
	}
	data, err := parseOperand(k, value)
	if err != nil {
		return err
	}
	if k.mask != nil {
		c.emit(masked(k.mask, make([]byte, len(k.mask))))
	}
	c.emit(compared(not, data[:prefix]))
	return nil
}

// compareMasked compiles the rest of `KEY & MASK == VALUE`, or !=.
func (c *compiler) compareMasked(k key, text string) error {
	mask, err := parseOperand(k, text)
	if err != nil {
		return err
	}
	not := c.accept("!=")
	if !not && !c.accept("==") {
		return fmt.Errorf("%q after a mask", c.rest)
	}
	value, err := parseOperand(k, c.word())
	if err != nil {
		return err
	}
	c.emit(masked(mask, make([]byte, len(mask))), compared(not, value))
	return nil
}

func (c *compiler) compareBits(k key, value string, not bool) error {
	if not {
		return fmt.Errorf("%s that is not %s is not known here", k.name, value)
	}
	var mask uint32
	for name := range strings.SplitSeq(value, ",") {
		bit, ok := bits[name]
		if !ok {
			return fmt.Errorf("%q is no %s", name, k.name)
		}
		mask |= bit
	}
	c.emit(masked(binaryutil.NativeEndian.PutUint32(mask), make([]byte, 4)),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: firstRegister, Data: make([]byte, 4)})
	return nil
}

func (c *compiler) comparePrefix(k key, value string, not bool) error {
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		addr, err := netip.ParseAddr(value)
		if err != nil {
			return fmt.Errorf("%q is no address or prefix", value)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if prefix.Addr().BitLen() != 8*k.size {
		return fmt.Errorf("%q is of the other address family", value)
	}
	data := prefix.Masked().Addr().AsSlice()
	switch bits := prefix.Bits(); {
	case bits == 8*k.size:
	case bits%8 == 0:
		// nft compares whole bytes by reading no more than them.
		load := c.out[len(c.out)-1].(*expr.Payload)
		load.Len, data = uint32(bits/8), data[:bits/8]
	default:
		mask := make([]byte, k.size)
		for i := range bits {
			mask[i/8] |= 0x80 >> (i % 8)
		}
		c.emit(masked(mask, make([]byte, k.size)))
	}
	c.emit(compared(not, data))
	return nil
}

// nat compiles the rest of `dnat ip to KEYS map @MAP`, and of snat. The map's values
// are an address and, where there is a register for it, a port.
func (c *compiler) nat(to expr.NAT) error {
	if _, err := c.load(); err != nil {
		return err
	}
	if err := c.lookup(); err != nil {
		return err
	}
	to.RegAddrMin = firstRegister
	c.emit(&to)
	return nil
}

// lookup compiles `map @MAP`: what a map has for the loaded keys.
func (c *compiler) lookup() error {
	if !c.accept("map") {
		return fmt.Errorf("%q after the keys of a map", c.rest)
	}
	name := strings.TrimPrefix(c.word(), "@")
	id, err := c.set(name)
	if err != nil {
		return err
	}
	c.emit(&expr.Lookup{SourceRegister: firstRegister, DestRegister: firstRegister, IsDestRegSet: true, SetName: name, SetID: id})
	return nil
}

// rewrite compiles the rest of `KEY set KEY map @MAP`, of one and the same key.
func (c *compiler) rewrite(k key) error {
	from, ok := c.out[len(c.out)-1].(*expr.Payload)
	if !ok || !c.accept(k.name) {
		return fmt.Errorf("%s is not set to %q here", k.name, c.rest)
	}
	if err := c.lookup(); err != nil {
		return err
	}
	to := &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: firstRegister, Base: from.Base, Offset: from.Offset, Len: from.Len}
	if to.Base == expr.PayloadBaseNetworkHeader {
		to.CsumFlags = unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR
	}
	c.emit(to)
	return nil
}

func (c *compiler) setMark() error {
	bit, err := strconv.ParseUint(c.word(), 0, 32)
	if err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	c.emit(
		&expr.Meta{Key: expr.MetaKeyMARK, Register: firstRegister},
		masked(binaryutil.NativeEndian.PutUint32(^uint32(bit)), binaryutil.NativeEndian.PutUint32(uint32(bit))),
		&expr.Meta{Key: expr.MetaKeyMARK, Register: firstRegister, SourceRegister: true},
	)
	return nil
}

// update compiles the rest of `update @SET { KEYS limit rate N/second burst N packets }`.
func (c *compiler) update() error {
	name := strings.TrimPrefix(c.word(), "@")
	id, err := c.set(name)
	if err != nil {
		return err
	}
	if !c.accept("{") {
		return fmt.Errorf("%q after a set to update", c.rest)
	}
	if _, err := c.load(); err != nil {
		return err
	}
	if !c.accept("limit rate") {
		return fmt.Errorf("%q after the keys of a set to update", c.rest)
	}
	rate, perSecond := strings.CutSuffix(c.word(), "/second")
	n, err := strconv.ParseUint(rate, 10, 32)
	if err != nil || !perSecond || !c.accept("burst") {
		return fmt.Errorf("limit of %q: only N/second burst N packets is known here", rate)
	}
	burst, err := strconv.ParseUint(c.word(), 10, 32)
	if err != nil || !c.accept("packets }") {
		return fmt.Errorf("burst before %q: only a number of packets is known here", c.rest)
	}
	c.emit(&expr.Dynset{SrcRegKey: firstRegister, SetName: name, SetID: id, Operation: unix.NFT_DYNSET_OP_UPDATE, Exprs: []expr.Any{
		&expr.Limit{Type: expr.LimitTypePkts, Rate: n, Unit: expr.LimitTimeSecond, Burst: uint32(burst)},
	}})
	return nil
}

// log compiles the rest of `log prefix "TEXT" group N snaplen N`.
func (c *compiler) log() error {
	word := c.word()
	prefix := strings.Trim(word, `"`)
	if len(prefix)+2 != len(word) || prefix == "" || !c.accept("group") {
		return fmt.Errorf("prefix %s: only one word in quotes, and a group, are known here", word)
	}
	group, err := strconv.ParseUint(c.word(), 10, 16)
	if err != nil || !c.accept("snaplen") {
		return fmt.Errorf("log before %q: only a group's number and snaplen are known here", c.rest)
	}
	size, err := strconv.ParseUint(c.word(), 10, 32)
	if err != nil {
		return fmt.Errorf("snaplen: %w", err)
	}
	c.emit(&expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_SNAPLEN, Group: uint16(group), Snaplen: uint32(size), Data: []byte(prefix)})
	return nil
}

func (c *compiler) set(name string) (uint32, error) {
	id, ok := c.sets[name]
	if !ok {
		return 0, fmt.Errorf("no set @%s", name)
	}
	return id, nil
}

// compared compares the first register, and as many as follow, with data.
func compared(not bool, data []byte) expr.Any {
	if not {
		return &expr.Cmp{Op: expr.CmpOpNeq, Register: firstRegister, Data: data}
	}
	return equal(data)
}

// equal compares the first register, and as many as follow, with data.
func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: data}
}

// masked makes the first register (value & mask) ^ xor.
func masked(mask, xor []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: uint32(len(mask)), Mask: mask, Xor: xor}
}

// registers is how many 4-byte registers a value of size bytes takes.
func registers(size int) int { return (size + 3) / 4 }

func padded(s string, size int) []byte {
	return append([]byte(s), make([]byte, max(0, size-len(s)))...)
}

func bigEndian16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
