package nft

import (
	"encoding/binary"
	"fmt"
	"math/big"
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

// NFT_META_IIFKIND and its like of include/uapi/linux/netfilter/nf_tables.h.
const (
	nftMetaIIFKind expr.MetaKey = 26
	nftMetaOIFKind expr.MetaKey = 27
)

// key is something of a packet that a rule can look at.
type key struct {
	name    string
	size    int    // bytes
	nfproto byte   // address family that a packet must have first; 0: any
	l4proto byte   // likewise for the transport protocol
	mask    []byte // the bits that are the key's; nil: all
	load    func(register uint32) expr.Any
}

var keys = []key{
	{name: "iifname", size: unix.IFNAMSIZ, load: meta(expr.MetaKeyIIFNAME)},
	{name: "oifname", size: unix.IFNAMSIZ, load: meta(expr.MetaKeyOIFNAME)},
	{name: "meta iifkind", size: unix.IFNAMSIZ, load: meta(nftMetaIIFKind)},
	{name: "meta oifkind", size: unix.IFNAMSIZ, load: meta(nftMetaOIFKind)},
	{name: "meta l4proto", size: 1, load: meta(expr.MetaKeyL4PROTO)},
	{name: "th dport", size: 2, load: payload(expr.PayloadBaseTransportHeader, 2, 2)},
	{name: "icmpv6 type", size: 1, nfproto: unix.NFPROTO_IPV6, l4proto: unix.IPPROTO_ICMPV6, load: payload(expr.PayloadBaseTransportHeader, 0, 1)},
	{name: "ip saddr", size: 4, nfproto: unix.NFPROTO_IPV4, load: payload(expr.PayloadBaseNetworkHeader, 12, 4)},
	{name: "ip daddr", size: 4, nfproto: unix.NFPROTO_IPV4, load: payload(expr.PayloadBaseNetworkHeader, 16, 4)},
	{name: "ip6 saddr", size: 16, nfproto: unix.NFPROTO_IPV6, load: payload(expr.PayloadBaseNetworkHeader, 8, 16)},
	{name: "ip6 hoplimit", size: 1, nfproto: unix.NFPROTO_IPV6, load: payload(expr.PayloadBaseNetworkHeader, 7, 1)},
	{name: "ip6 daddr", size: 16, nfproto: unix.NFPROTO_IPV6, load: payload(expr.PayloadBaseNetworkHeader, 24, 16)},
	{name: "meta mark", size: 4, load: meta(expr.MetaKeyMARK)},
	{name: "meta nfproto", size: 1, load: meta(expr.MetaKeyNFPROTO)},
	{name: "meta protocol", size: 2, load: meta(expr.MetaKeyPROTOCOL)},
	{name: "ether saddr", size: 6, load: payload(expr.PayloadBaseLLHeader, 6, 6)},
	{name: "arp operation", size: 2, nfproto: unix.NFPROTO_ARP, load: payload(expr.PayloadBaseNetworkHeader, 6, 2)},
	{name: "arp saddr ether", size: 6, nfproto: unix.NFPROTO_ARP, load: payload(expr.PayloadBaseNetworkHeader, 8, 6)},
	{name: "arp saddr ip", size: 4, nfproto: unix.NFPROTO_ARP, load: payload(expr.PayloadBaseNetworkHeader, 14, 4)},
	{name: "arp daddr ip", size: 4, nfproto: unix.NFPROTO_ARP, load: payload(expr.PayloadBaseNetworkHeader, 24, 4)},
	{name: "icmp type", size: 1, nfproto: unix.NFPROTO_IPV4, l4proto: unix.IPPROTO_ICMP, load: payload(expr.PayloadBaseTransportHeader, 0, 1)},
	{name: "udp dport", size: 2, l4proto: unix.IPPROTO_UDP, load: payload(expr.PayloadBaseTransportHeader, 2, 2)},
	{name: "ip frag-off", size: 2, nfproto: unix.NFPROTO_IPV4, load: payload(expr.PayloadBaseNetworkHeader, 6, 2)},
	{name: "frag frag-off", size: 2, nfproto: unix.NFPROTO_IPV6, mask: []byte{0xff, 0xf8}, load: func(register uint32) expr.Any {
		return &expr.Exthdr{DestRegister: register, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6}
	}},
	// Of the packet that an error is about: source and destination.
	{name: "@th,128,128", size: 16, load: payload(expr.PayloadBaseTransportHeader, 16, 16)},
	{name: "@th,256,128", size: 16, load: payload(expr.PayloadBaseTransportHeader, 32, 16)},
	// Of a neighbor solicitation or advertisement: the target, and parts of it.
	{name: "@th,64,128", size: 16, load: payload(expr.PayloadBaseTransportHeader, 8, 16)},
	{name: "@th,64,80", size: 10, load: payload(expr.PayloadBaseTransportHeader, 8, 10)},
	{name: "@th,64,64", size: 8, load: payload(expr.PayloadBaseTransportHeader, 8, 8)},
	{name: "@th,152,16", size: 2, load: payload(expr.PayloadBaseTransportHeader, 19, 2)},
	{name: "ct state", size: 4, load: conntrack(expr.CtKeySTATE)},
	{name: "ct status", size: 4, load: conntrack(expr.CtKeySTATUS)},
	{name: "fib daddr type", size: 4, load: func(register uint32) expr.Any {
		return &expr.Fib{Register: register, FlagDADDR: true, ResultADDRTYPE: true}
	}},
}

func meta(k expr.MetaKey) func(uint32) expr.Any {
	return func(register uint32) expr.Any { return &expr.Meta{Key: k, Register: register} }
}

func conntrack(k expr.CtKey) func(uint32) expr.Any {
	return func(register uint32) expr.Any { return &expr.Ct{Key: k, Register: register} }
}

func payload(base expr.PayloadBase, offset, size uint32) func(uint32) expr.Any {
	return func(register uint32) expr.Any {
		return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: size}
	}
}

// bits are the names of flags that `ct state` and `ct status` are compared with
// (include/uapi/linux/netfilter/nf_conntrack_common.h).
var bits = map[string]uint32{
	"invalid":     expr.CtStateBitINVALID,
	"established": expr.CtStateBitESTABLISHED,
	"related":     expr.CtStateBitRELATED,
	"dnat":        1 << 5, // IPS_DST_NAT
}

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

// parseOperand reads what a key is compared with.
func parseOperand(k key, value string) ([]byte, error) {
	switch k.name {
	case "iifname", "oifname", "meta iifkind", "meta oifkind":
		if name := strings.Trim(value, `"`); len(name)+2 == len(value) && name != "" {
			return padded(name, k.size), nil
		}
		return nil, fmt.Errorf("%q is no name in quotes", value)
	case "fib daddr type":
		if value == "local" {
			return binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL), nil
		}
		return nil, fmt.Errorf("%q is no address type", value)
	case "meta nfproto":
		if family, ok := map[string]byte{"ipv4": unix.NFPROTO_IPV4, "ipv6": unix.NFPROTO_IPV6}[value]; ok {
			return []byte{family}, nil
		}
		return nil, fmt.Errorf("%q is no protocol of packets", value)
	case "meta l4proto":
		return datatypes["inet_proto"].parse(value)
	case "meta protocol":
		if family, ok := map[string]byte{"ip": unix.NFPROTO_IPV4, "ip6": unix.NFPROTO_IPV6, "arp": unix.NFPROTO_ARP}[value]; ok {
			return etherTypes[family], nil
		}
		return nil, fmt.Errorf("%q is no protocol of frames", value)
	case "arp operation":
		if value == "request" {
			return bigEndian16(arpRequest), nil
		}
		return nil, fmt.Errorf("%q is no ARP operation", value)
	case "icmpv6 type":
		return datatypes["icmpv6_type"].parse(value)
	case "icmp type":
		return datatypes["icmp_type"].parse(value)
	case "ip6 saddr", "ip6 daddr":
		if a, err := netip.ParseAddr(value); err == nil && a.Is6() {
			return a.AsSlice(), nil
		}
		return nil, fmt.Errorf("%q is no IPv6 address", value)
	case "meta mark":
		n, err := strconv.ParseUint(value, 0, 32)
		return binaryutil.NativeEndian.PutUint32(uint32(n)), err
	case "udp dport":
		return parsePort(value)
	case "ip6 hoplimit", "ip frag-off", "frag frag-off", "@th,64,128", "@th,64,80", "@th,64,64", "@th,152,16":
		n, ok := new(big.Int).SetString(value, 0)
		if !ok || n.Sign() < 0 || n.BitLen() > 8*k.size {
			return nil, fmt.Errorf("%q is no number of %d bits", value, 8*k.size)
		}
		return n.FillBytes(make([]byte, k.size)), nil
	}
	return nil, fmt.Errorf("%s is not compared with values here", k.name)
}

// arpRequest is ares_op$REQUEST of RFC 826.
const arpRequest = 1

// etherTypes are those of protocols (include/uapi/linux/if_ether.h).
var etherTypes = map[byte][]byte{
	unix.NFPROTO_IPV4: bigEndian16(unix.ETH_P_IP),
	unix.NFPROTO_IPV6: bigEndian16(unix.ETH_P_IPV6),
	unix.NFPROTO_ARP:  bigEndian16(unix.ETH_P_ARP),
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
