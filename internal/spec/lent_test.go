package spec

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestRenumbered(t *testing.T) {
	for _, tc := range []struct{ addr, to, want string }{
		{"2001:db8:1::5", "2001:db8:2::/64", "2001:db8:2::5"},
		{"2001:db8:1:0:aaaa:bbbb:cccc:dddd", "fd00::/64", "fd00::aaaa:bbbb:cccc:dddd"},
		{"2001:db8:1::1:5", "2001:db8:2:3:4::/80", "2001:db8:2:3:4:0:1:5"},
		{"2001:db8::17", "2001:db8:ffff::f0/124", "2001:db8:ffff::f7"},
		{"2001:db8::3f", "2001:db8:ffff::c0/122", "2001:db8:ffff::ff"},
		{"192.0.2.1", "2001:db8::/64", "192.0.2.1"},
	} {
		got := Renumbered(netip.MustParseAddr(tc.addr), netip.MustParsePrefix(tc.to))
		if got != netip.MustParseAddr(tc.want) {
			t.Errorf("%s in %s = %s, want %s", tc.addr, tc.to, got, tc.want)
		}
	}
}

// There and back again is the same address, and different addresses stay different.
func TestRenumberedKeepsTheHostPart(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bits := rapid.IntRange(64, 126).Draw(rt, "bits")
		draw := func(label string) netip.Prefix {
			b := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, label))
			b[0] = 0x20
			return netip.PrefixFrom(netip.AddrFrom16(b), bits)
		}
		one, other, to := draw("one"), draw("other").Addr(), draw("to").Masked()
		other = Renumbered(other, one)
		a, b := Renumbered(one.Addr(), to), Renumbered(other, to)
		if !to.Contains(a) || Renumbered(a, one) != one.Addr() {
			rt.Fatalf("%s became %s in %s, and %s again", one.Addr(), a, to, Renumbered(a, one))
		}
		if (a == b) != (one.Addr() == other) {
			rt.Fatalf("%s and %s became %s and %s", one.Addr(), other, a, b)
		}
	})
}
