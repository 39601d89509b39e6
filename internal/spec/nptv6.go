package spec

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// MaxNPTv6Bits leaves a whole word of 16 bits after the prefix, in which what the
// prefixes differ by is made up for.
const MaxNPTv6Bits = 112

// Translation is network prefix translation (RFC 6296): an address of Inside is
// known by one of Outside to whoever is not on the network. Both prefixes are of
// one length. It is a function of the address alone, and keeps the ones'
// complement sum of its words, so that no transport checksum changes.
type Translation struct{ Inside, Outside netip.Prefix }

// Validate says why prefixes cannot be translated into each other.
func (t Translation) Validate() error {
	switch {
	case !t.Inside.IsValid() || !t.Outside.IsValid() || !t.Inside.Addr().Is6() || !t.Outside.Addr().Is6():
		return fmt.Errorf("prefixes %s and %s are not both of IPv6", t.Inside, t.Outside)
	case t.Inside.Bits() != t.Outside.Bits():
		return fmt.Errorf("prefix %s cannot stand for %s: it needs the same length, /%d", t.Outside, t.Inside, t.Inside.Bits())
	case t.Inside.Bits() > MaxNPTv6Bits:
		return fmt.Errorf("prefix %s is too long to be translated (allowed: up to /%d)", t.Inside, MaxNPTv6Bits)
	case t.Inside.Overlaps(t.Outside):
		return fmt.Errorf("prefixes %s and %s overlap", t.Inside, t.Outside)
	}
	return nil
}

// Out is what an address of Inside is known by; false where there is none: RFC 6296
// §3.5 leaves an interface identifier of nothing but ones untranslated.
func (t Translation) Out(a netip.Addr) (netip.Addr, bool) { return translate(a, t.Inside, t.Outside) }

// In is the address of Inside that is known by one of Outside.
func (t Translation) In(a netip.Addr) (netip.Addr, bool) { return translate(a, t.Outside, t.Inside) }

func translate(a netip.Addr, from, to netip.Prefix) (netip.Addr, bool) {
	if !from.Contains(a) {
		return netip.Addr{}, false
	}
	before, after := words(from.Masked().Addr()), words(to.Masked().Addr())
	w := words(a)
	// The prefix's own words, and of one that it shares with what follows its bits.
	for i := range w {
		mask := uint16(0)
		switch bits := from.Bits() - 16*i; {
		case bits >= 16:
			mask = 0xffff
		case bits > 0:
			mask = ^uint16(0xffff >> bits)
		}
		w[i] = w[i]&^mask | after[i]&mask
	}
	at, ok := adjusted(w, from.Bits())
	if !ok {
		return netip.Addr{}, false
	}
	w[at] = add(w[at], add(sum(before), ^sum(after)))
	if w[at] == 0xffff { // §3.3: the other zero, which §3.5 reserves
		w[at] = 0
	}
	var out [16]byte
	for i, word := range w {
		binary.BigEndian.PutUint16(out[2*i:], word)
	}
	return netip.AddrFrom16(out), true
}

// adjusted is the word that makes up for the prefixes' difference: bits 48 to 63,
// which are the subnet's, of a short prefix (§3.4), or the first of the interface
// identifier that is not all ones (§3.5), and none of a prefix that reaches there.
func adjusted(w [8]uint16, bits int) (int, bool) {
	if bits <= 48 {
		return 3, w[3] != 0xffff
	}
	for i := max(4, (bits+15)/16); i < len(w); i++ {
		if w[i] != 0xffff {
			return i, true
		}
	}
	return 0, false
}

func words(a netip.Addr) (w [8]uint16) {
	b := a.As16()
	for i := range w {
		w[i] = binary.BigEndian.Uint16(b[2*i:])
	}
	return w
}

// sum and add are in ones' complement (RFC 1071).
func sum(w [8]uint16) (s uint16) {
	for _, word := range w {
		s = add(s, word)
	}
	return s
}

func add(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s) + uint16(s>>16)
}
