package ipam

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"go4.org/netipx"
)

// Carve finds a prefix of the given length inside from that overlaps none of
// taken. The parts of from are numbered in ascending order; the search begins at
// number start, modulo their count, and goes round once. Its cost depends on the
// number of taken prefixes, not on their size. Taken prefixes may overlap each
// other, lie elsewhere or be of the other family. Errors for a from that is full
// wrap ErrExhausted.
func Carve(from netip.Prefix, bits int, taken []netip.Prefix, start uint64) (netip.Prefix, error) {
	if !from.IsValid() || bits < from.Bits() || bits > from.Addr().BitLen() {
		return netip.Prefix{}, fmt.Errorf("carve a /%d out of %s: not a part of it", bits, from)
	}
	from = from.Masked()
	free, err := free(from, taken)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("carve a /%d out of %s: %w", bits, from, err)
	}
	first := part(from, bits, start)
	for _, r := range free {
		if p, ok := firstIn(r, first, bits); ok {
			return p, nil
		}
	}
	// Nothing from first on: whatever the second round finds lies before it.
	for _, r := range free {
		if p, ok := firstIn(r, from.Addr(), bits); ok {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("%s is %w: no free /%d in it", from, ErrExhausted, bits)
}

// Part is part number n of from cut into prefixes of a length; none where there are
// not so many.
func Part(from netip.Prefix, bits int, n uint64) (netip.Prefix, bool) {
	width := bits - from.Bits()
	if !from.IsValid() || width < 0 || bits > from.Addr().BitLen() || width < 64 && n >= 1<<width {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(part(from.Masked(), bits, n), bits), true
}

// Number is which part of from p is, counted in parts of p's size.
func Number(from, p netip.Prefix) uint64 {
	b, base := p.Masked().Addr().As16(), from.Masked().Addr().As16()
	high := binary.BigEndian.Uint64(b[:8]) - binary.BigEndian.Uint64(base[:8])
	low := binary.BigEndian.Uint64(b[8:]) - binary.BigEndian.Uint64(base[8:])
	shift := p.Addr().BitLen() - p.Bits()
	if shift >= 64 {
		return high >> (shift - 64)
	}
	return low>>shift | high<<(64-shift)
}

// free is what taken leaves of from, ascending.
func free(from netip.Prefix, taken []netip.Prefix) ([]netipx.IPRange, error) {
	var b netipx.IPSetBuilder
	b.AddPrefix(from)
	for _, t := range taken {
		if t.Overlaps(from) { // false for an invalid prefix, which the builder would refuse
			b.RemovePrefix(t)
		}
	}
	set, err := b.IPSet()
	if err != nil {
		return nil, err
	}
	return set.Ranges(), nil
}

// part is part number n, modulo their count, of from cut into prefixes of a length.
func part(from netip.Prefix, bits int, n uint64) netip.Addr {
	if width := bits - from.Bits(); width < 64 {
		n &= 1<<width - 1
	}
	// n is a number of 128 bits when shifted to its place; IPv4 is the low end
	// of it. A shift by 64 or more gives 0, which is what is wanted here.
	shift := from.Addr().BitLen() - bits
	b := from.Addr().As16()
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	low |= n << shift
	if shift < 64 {
		high |= n >> (64 - shift)
	} else {
		high |= n << (shift - 64)
	}
	binary.BigEndian.PutUint64(b[:8], high)
	binary.BigEndian.PutUint64(b[8:], low)
	a := netip.AddrFrom16(b)
	if from.Addr().Is4() {
		return a.Unmap()
	}
	return a
}

// firstIn is the first prefix of a length in the range that does not begin before least.
func firstIn(r netipx.IPRange, least netip.Addr, bits int) (netip.Prefix, bool) {
	a := r.From()
	if a.Less(least) {
		a = least
	}
	p := netip.PrefixFrom(a, bits).Masked()
	if p.Addr() != a { // a is inside p: the next one is the first that is whole
		p = netip.PrefixFrom(netipx.PrefixLastIP(p).Next(), bits)
	}
	ok := p.IsValid() && r.Contains(p.Addr()) && r.Contains(netipx.PrefixLastIP(p))
	return p, ok
}
