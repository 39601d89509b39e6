package pcapfilter

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
)

// A Link is how long the header is that a link puts before a packet: 14 of Ethernet's, or
// none, where packets are IP from their first byte on.
type Link int

// The links.
const (
	Ethernet Link = 14
	RawIP    Link = 0
)

// maxInstructions is the kernel's (BPF_MAXINSNS).
const maxInstructions = 4096

// Compile makes the program that lets snaplen bytes of each frame through that is meant;
// an empty text is all of them.
func Compile(text string, link Link, snaplen uint32, lookup Lookup) ([]bpf.Instruction, error) {
	all, err := words(text)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return []bpf.Instruction{bpf.RetConstant{Val: snaplen}}, nil
	}
	p := parser{words: all, lookup: lookup, link: link}
	root, err := p.expression()
	if err != nil {
		return nil, err
	}
	if w := p.next(); w != "" {
		return nil, unsupported(w)
	}
	var g generator
	yes, no := g.label(), g.label()
	root.generate(&g, yes, no)
	g.place(yes)
	g.emit(bpf.RetConstant{Val: snaplen})
	g.place(no)
	g.emit(bpf.RetConstant{Val: 0})
	return g.resolve()
}

// generator writes instructions, of which jumps name labels until all are placed.
type generator struct {
	code   []bpf.Instruction
	jumps  map[int]int // instruction → label
	places []int       // of labels
}

func (g *generator) label() int {
	g.places = append(g.places, -1)
	return len(g.places) - 1
}

func (g *generator) place(label int)           { g.places[label] = len(g.code) }
func (g *generator) emit(i ...bpf.Instruction) { g.code = append(g.code, i...) }

func (g *generator) jump(label int) {
	if g.jumps == nil {
		g.jumps = map[int]int{}
	}
	g.jumps[len(g.code)] = label
	g.emit(bpf.Jump{})
}

// resolve gives jumps their distances. Conditional ones are always of one instruction,
// since theirs are bounded; the others' are not.
func (g *generator) resolve() ([]bpf.Instruction, error) {
	if len(g.code) > maxInstructions {
		return nil, fmt.Errorf("filter: it is too long for the kernel: %d instructions, allowed are %d", len(g.code), maxInstructions)
	}
	for at, label := range g.jumps {
		g.code[at] = bpf.Jump{Skip: uint32(g.places[label] - at - 1)}
	}
	return g.code, nil
}

// node is a part of a filter. It generates what goes to yes for a frame that is meant,
// and to no for others.
type node interface {
	generate(g *generator, yes, no int)
}

type both struct{ a, b node }

func (n both) generate(g *generator, yes, no int) {
	next := g.label()
	n.a.generate(g, next, no)
	g.place(next)
	n.b.generate(g, yes, no)
}

type either struct{ a, b node }

func (n either) generate(g *generator, yes, no int) {
	next := g.label()
	n.a.generate(g, yes, next)
	g.place(next)
	n.b.generate(g, yes, no)
}

type negated struct{ n node }

func (n negated) generate(g *generator, yes, no int) { n.n.generate(g, no, yes) }

// test loads something and compares it.
type test struct {
	load  []bpf.Instruction
	cond  bpf.JumpTest
	value uint32
}

func (n test) generate(g *generator, yes, no int) {
	g.emit(n.load...)
	g.emit(bpf.JumpIf{Cond: n.cond, Val: n.value, SkipFalse: 1})
	g.jump(yes)
	g.jump(no)
}

// allOf and anyOf join several nodes.
func allOf(nodes ...node) node {
	n := nodes[0]
	for _, next := range nodes[1:] {
		n = both{n, next}
	}
	return n
}

func anyOf(nodes ...node) node {
	n := nodes[0]
	for _, next := range nodes[1:] {
		n = either{n, next}
	}
	return n
}

func is(offset, size int, value uint32) node {
	return test{[]bpf.Instruction{bpf.LoadAbsolute{Off: uint32(offset), Size: size}}, bpf.JumpEqual, value}
}

// Numbers of IANA's.
const (
	etherIPv4, etherARP, etherRARP, etherIPv6 = 0x0800, 0x0806, 0x8035, 0x86dd

	icmp, tcp, udp, fragment, icmp6, sctp = 1, 6, 17, 44, 58, 132
)

func (l Link) ether(etherType uint32) node {
	if l == RawIP {
		version := uint32(0x40)
		switch etherType {
		case etherIPv6:
			version = 0x60
		case etherIPv4:
		default: // there is none on such a link: the first byte has no such bits
			return test{[]bpf.Instruction{bpf.LoadConstant{Dst: bpf.RegA, Val: 0}}, bpf.JumpEqual, 1}
		}
		return test{[]bpf.Instruction{bpf.LoadAbsolute{Off: 0, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0}}, bpf.JumpEqual, version}
	}
	return is(12, 2, etherType)
}

// v4 and v6 are packets of a protocol; of a first fragment, too, that of IPv6 is told by
// its fragment header.
func (l Link) v4(protocol uint32) node { return allOf(l.ether(etherIPv4), is(int(l)+9, 1, protocol)) }

func (l Link) v6(protocol uint32) node {
	next := int(l) + 6
	return allOf(l.ether(etherIPv6), anyOf(is(next, 1, protocol), allOf(is(next, 1, fragment), is(int(l)+40, 1, protocol))))
}

func (l Link) protocol(name string) node {
	switch name {
	case "ip":
		return l.ether(etherIPv4)
	case "ip6":
		return l.ether(etherIPv6)
	case "arp":
		return l.ether(etherARP)
	case "icmp":
		return l.v4(icmp)
	case "icmp6":
		return l.v6(icmp6)
	default:
		n := numbers[name]
		return anyOf(l.v6(n), l.v4(n))
	}
}

var numbers = map[string]uint32{"tcp": tcp, "udp": udp, "sctp": sctp}

// addresses are packets from or to a prefix, by direction or either way; with arp also
// questions and answers about it.
func (l Link) addresses(prefix netip.Prefix, direction string, arp bool) node {
	at := func(src, dst int) node {
		switch direction {
		case "src":
			return l.within(src, prefix)
		case "dst":
			return l.within(dst, prefix)
		default:
			return anyOf(l.within(src, prefix), l.within(dst, prefix))
		}
	}
	if prefix.Addr().Is6() {
		return allOf(l.ether(etherIPv6), at(8, 24))
	}
	ip := allOf(l.ether(etherIPv4), at(12, 16))
	if !arp {
		return ip
	}
	return anyOf(ip, allOf(anyOf(l.ether(etherARP), l.ether(etherRARP)), at(14, 24))) // RFC 826 on Ethernet
}

// within compares the address at an offset behind the link's header, word by word.
func (l Link) within(offset int, prefix netip.Prefix) node {
	b := prefix.Addr().AsSlice()
	var parts []node
	for i, bits := 0, prefix.Bits(); i < len(b); i, bits = i+4, bits-32 {
		load := []bpf.Instruction{bpf.LoadAbsolute{Off: uint32(int(l) + offset + i), Size: 4}}
		word := binary.BigEndian.Uint32(b[i:])
		switch {
		case bits <= 0 && i > 0:
			continue
		case bits < 32:
			load = append(load, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: ^uint32(0) << (32 - max(bits, 0))})
		}
		parts = append(parts, test{load, bpf.JumpEqual, word})
	}
	return allOf(parts...)
}

// ports are packets of protocols that have them; of fragments the first alone has them,
// and IPv6's not at all, as with tcpdump.
func (l Link) ports(protocol, direction string, from, to uint16) node {
	var v4, v6 []node
	for _, name := range []string{"sctp", "tcp", "udp"} {
		if protocol == "" || protocol == name {
			v4 = append(v4, is(int(l)+9, 1, numbers[name]))
			v6 = append(v6, is(int(l)+6, 1, numbers[name]))
		}
	}
	either := func(at func(offset int) []bpf.Instruction) node {
		src, dst := inRange(at(0), from, to), inRange(at(2), from, to)
		switch direction {
		case "src":
			return src
		case "dst":
			return dst
		default:
			return anyOf(src, dst)
		}
	}
	whole := negated{test{[]bpf.Instruction{bpf.LoadAbsolute{Off: uint32(l) + 6, Size: 2}}, bpf.JumpBitsSet, 0x1fff}}
	return anyOf(
		allOf(l.ether(etherIPv6), anyOf(v6...), either(func(offset int) []bpf.Instruction {
			return []bpf.Instruction{bpf.LoadAbsolute{Off: uint32(int(l) + 40 + offset), Size: 2}}
		})),
		allOf(l.ether(etherIPv4), anyOf(v4...), whole, either(func(offset int) []bpf.Instruction {
			return []bpf.Instruction{bpf.LoadMemShift{Off: uint32(l)}, bpf.LoadIndirect{Off: uint32(int(l) + offset), Size: 2}}
		})),
	)
}

func inRange(load []bpf.Instruction, from, to uint16) node {
	if from == to {
		return test{load, bpf.JumpEqual, uint32(from)}
	}
	return allOf(test{load, bpf.JumpGreaterOrEqual, uint32(from)}, test{load, bpf.JumpLessOrEqual, uint32(to)})
}
