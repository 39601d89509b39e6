package nft

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
)

// probe is a packet that we have vouched for, the first of a connection, as far as it is
// known: who is at which end, and what is asked, is not.
type probe struct {
	in, out string // links
	dns     bool   // a question to a name server
}

// value is what is known of something that a rule looks at: the bits that known has.
type value struct{ data, known []byte }

func certain(data []byte) value { return value{data, bytes.Repeat([]byte{0xff}, len(data))} }

// linkName is one as the kernel compares it (IFNAMSIZ).
func linkName(name string) value {
	return certain(append([]byte(name), make([]byte, unix.IFNAMSIZ)...)[:unix.IFNAMSIZ])
}

func (p probe) meta(key expr.MetaKey) value {
	bit := binaryutil.NativeEndian.PutUint32(firewall.VouchMark)
	switch {
	case key == expr.MetaKeyIIFNAME:
		return linkName(p.in)
	case key == expr.MetaKeyOIFNAME:
		return linkName(p.out)
	case key == expr.MetaKeyMARK:
		return value{bit, bit}
	case key == expr.MetaKeyL4PROTO && p.dns:
		return certain([]byte{unix.IPPROTO_UDP})
	}
	return value{}
}

func (p probe) payload(e *expr.Payload) value {
	if p.dns && e.Base == expr.PayloadBaseTransportHeader && e.Offset == 2 && e.Len == 2 {
		return certain(binary.BigEndian.AppendUint16(nil, 53))
	}
	return value{}
}

// answer is that of a rule's condition.
type answer int

const (
	unknown answer = iota
	yes
	no
)

func (a answer) not(inverted bool) answer {
	switch {
	case !inverted || a == unknown:
		return a
	case a == yes:
		return no
	default:
		return yes
	}
}

// is compares as many bytes as the other one has.
func (v value) is(other []byte) answer {
	if len(v.data) < len(other) {
		return unknown
	}
	all := yes
	for i, b := range other {
		if (v.data[i]^b)&v.known[i] != 0 {
			return no
		}
		if v.known[i] != 0xff {
			all = unknown
		}
	}
	return all
}

func (v value) masked(mask, xor []byte) value {
	if len(mask) == 0 || len(mask) != len(xor) || len(v.data) < len(mask) && len(v.data) > 0 {
		return value{}
	}
	out := value{make([]byte, len(mask)), make([]byte, len(mask))}
	for i := range mask {
		if len(v.data) > 0 {
			out.data[i], out.known[i] = v.data[i]&v.known[i]&mask[i], v.known[i]
		}
		out.data[i] ^= xor[i]
		out.known[i] |= ^mask[i]
	}
	return out
}

// others are the chains of other programs, as they are while they are looked at.
type others struct {
	conn   *nftables.Conn
	socket *netlink.Conn
	rules  map[string][]*nftables.Rule
	sets   map[string][][]byte // elements, of those that list single ones
}

func newOthers(conn *nftables.Conn, socket *netlink.Conn) *others {
	return &others{conn: conn, socket: socket, rules: map[string][]*nftables.Rule{}, sets: map[string][][]byte{}}
}

func (o *others) rulesOf(c *nftables.Chain) ([]*nftables.Rule, error) {
	name := chainName(c)
	if rules, read := o.rules[name]; read {
		return rules, nil
	}
	rules, err := rulesOf(o.socket, c)
	if err == nil {
		o.rules[name] = rules
	}
	return rules, err
}

// elements of a set; nil where they are ranges, or cannot be read.
func (o *others) elements(t *nftables.Table, name string) [][]byte {
	key := tableName(t) + " " + name
	if elements, read := o.sets[key]; read {
		return elements
	}
	o.sets[key] = nil
	s, err := o.conn.GetSetByName(t, name)
	if err != nil || s.Interval || s.Dynamic {
		return nil
	}
	s.Table = t
	list, err := o.conn.GetSetElements(s)
	if err != nil {
		return nil
	}
	for _, e := range list {
		o.sets[key] = append(o.sets[key], e.Key)
	}
	return o.sets[key]
}

// verdict is what a rule does with a probe, if it is certain that it does.
func (o *others) verdict(r *nftables.Rule, p probe) (v expr.Verdict, is answer) {
	registers := map[uint32]value{}
	is = yes
	condition := func(a answer) {
		if is != no && a != yes {
			is = a
		}
	}
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log:
		case *expr.Immediate:
			registers[e.Register] = certain(e.Data)
		case *expr.Meta:
			if !e.SourceRegister {
				registers[e.Register] = p.meta(e.Key)
			}
		case *expr.Payload:
			registers[e.DestRegister] = p.payload(e)
		case *expr.Ct:
			registers[e.Register] = value{}
			if e.Key == expr.CtKeySTATE {
				registers[e.Register] = certain(binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW))
			}
		case *expr.Bitwise:
			registers[e.DestRegister] = registers[e.SourceRegister].masked(e.Mask, e.Xor)
		case *expr.Fib:
			registers[e.Register] = value{}
		case *expr.Cmp:
			a := unknown
			if e.Op == expr.CmpOpEq || e.Op == expr.CmpOpNeq {
				a = registers[e.Register].is(e.Data).not(e.Op == expr.CmpOpNeq)
			}
			condition(a)
		case *expr.Lookup:
			a := unknown
			if elements := o.elements(r.Table, e.SetName); len(elements) > 0 && !e.IsDestRegSet {
				a = no
				for _, element := range elements {
					if one := registers[e.SourceRegister].is(element); one != no && a != yes {
						a = one
					}
				}
			}
			condition(a.not(e.Invert))
		case *expr.Match:
			switch {
			case e.Name == "comment":
			case matchesMark([]expr.Any{e}):
				condition(yes)
			default:
				condition(unknown)
			}
		case *expr.Verdict:
			return *e, is
		case *expr.Reject:
			return expr.Verdict{Kind: expr.VerdictDrop}, is
		case *expr.Target:
			if e.Name == "REJECT" {
				return expr.Verdict{Kind: expr.VerdictDrop}, is
			}
		default:
			condition(unknown)
		}
	}
	return v, no // decides nothing
}

// maxJumps is the kernel's own bound (NFT_JUMP_STACK_SIZE).
const maxJumps = 16

// fate is the verdict that the rules of a chain, and of those that it leads to, come to;
// nil: none. What may or may not be so does not count: a rule that lets some packets
// through is no way for ours. But a chain that some return from, those to the host's
// own addresses in ufw's, say, does not refuse ours for certain.
func (o *others) fate(c *nftables.Chain, p probe, depth int) *expr.Verdict {
	rules, err := o.rulesOf(c)
	if err != nil || depth > maxJumps {
		return nil
	}
	perhapsLeft := false
	for _, r := range rules {
		v, is := o.verdict(r, p)
		if strings.HasPrefix(v.Chain, firewall.Name+"-") {
			continue // package ip6tables' own, which go where it is not in use; those that are left are told of otherwise
		}
		if is != yes {
			perhapsLeft = perhapsLeft || is == unknown && v.Kind == expr.VerdictReturn
			continue
		}
		to := &nftables.Chain{Name: v.Chain, Table: c.Table}
		switch v.Kind {
		case expr.VerdictDrop:
			if perhapsLeft {
				return nil
			}
			return &v
		case expr.VerdictAccept:
			return &v
		case expr.VerdictReturn:
			return nil
		case expr.VerdictGoto:
			return o.fate(to, p, depth+1)
		case expr.VerdictJump:
			if end := o.fate(to, p, depth+1); end != nil {
				return end
			}
		}
	}
	return nil
}

// refuses says why a base chain does not let a probe through; empty: it does, or what
// it does depends on more than is known.
func (o *others) refuses(base *nftables.Chain, p probe) string {
	switch v := o.fate(base, p, 0); {
	case v != nil && v.Kind == expr.VerdictDrop:
		return "its rules refuse them"
	case v == nil && base.Policy != nil && *base.Policy == nftables.ChainPolicyDrop:
		return "policy drop"
	}
	return ""
}

// refused are the bridges of which a base chain refuses packets, each asked for by the
// probes that all must pass, one of each list.
func (o *others) refused(base *nftables.Chain, bridges map[string][][]probe) (names []string, why string) {
	for bridge, ways := range bridges {
		for _, alternatives := range ways {
			because := ""
			for _, p := range alternatives {
				if because = o.refuses(base, p); because == "" {
					break
				}
			}
			if because != "" {
				names, why = append(names, bridge), because
				break
			}
		}
	}
	slices.Sort(names)
	return names, why
}

// listed are names for people, who read the first few.
func listed(names []string) string {
	const enough = 5
	if len(names) > enough {
		return strings.Join(names[:enough], ", ") + ", …"
	}
	return strings.Join(names, ", ")
}
