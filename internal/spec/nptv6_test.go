package spec

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func translation(inside, outside string) Translation {
	return Translation{netip.MustParsePrefix(inside), netip.MustParsePrefix(outside)}
}

func TestTranslation(t *testing.T) {
	for _, tc := range []struct {
		name            string
		inside, outside string
		in, out         string // out empty: not translated
	}{
		// RFC 6296 §2.6 and appendix B.
		{"the RFC's example", "fd01:203:405::/48", "2001:db8:1::/48", "fd01:203:405:1::1234", "2001:db8:1:d550::1234"},
		{"a subnet of ones", "fd01:203:405::/48", "2001:db8:1::/48", "fd01:203:405:ffff::1234", ""},
		// 0xfd01+0x0203+0x0405 = 0x0309+1 less 0x2001+0x0db8+0x0001 = 0x2dba is 0xd54f.
		{"a /64 in its first word", "fd01:203:405::/64", "2001:db8:1::/64", "fd01:203:405::1234", "2001:db8:1:0:d54f::1234"},
		{"a first word of ones", "fd01:203:405::/64", "2001:db8:1::/64", "fd01:203:405:0:ffff::1", "2001:db8:1:0:ffff:d54f:0:1"},
		{"never the other zero", "fd01:203:405::/64", "2001:db8:1::/64", "fd01:203:405:0:2ab0::1", "2001:db8:1::1"},
		{"all ones", "fd01:203:405::/64", "2001:db8:1::/64", "fd01:203:405:0:ffff:ffff:ffff:ffff", ""},
		{"a /80", "fd01:203:405:0:1::/80", "2001:db8:1:0:2::/80", "fd01:203:405:0:1::9", "2001:db8:1:0:2:d54e:0:9"},
		{"a /76 shares a word", "fd01:203:405::/76", "2001:db8:1:0:10::/76", "fd01:203:405:0:7::9", "2001:db8:1:0:17:d53f:0:9"},
		{"another prefix", "fd01:203:405::/64", "2001:db8:1::/64", "fd01:203:405:1::1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := translation(tc.inside, tc.outside)
			if err := tr.Validate(); err != nil {
				t.Fatal(err)
			}
			got, ok := tr.Out(netip.MustParseAddr(tc.in))
			if ok != (tc.out != "") || ok && got != netip.MustParseAddr(tc.out) {
				t.Fatalf("%s is translated to %v, %v; want %s", tc.in, got, ok, tc.out)
			}
			if back, _ := tr.In(got); ok && back.String() != tc.in {
				t.Errorf("%s is translated back to %s, from %s", got, back, tc.in)
			}
		})
	}
}

// Whatever the prefixes and the address: the checksum stays, no word is 0xffff
// that was not, and the way back leads to where it came from.
func TestTranslationProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(label string) netip.Addr {
			return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte{0, 0xff})), 16, 16).Draw(rt, label)))
		}
		bits := rapid.IntRange(48, MaxNPTv6Bits).Draw(rt, "bits")
		inside, _ := draw("inside").Prefix(bits)
		outside, _ := draw("outside").Prefix(bits)
		tr := Translation{inside, outside}
		if tr.Validate() != nil {
			rt.Skip()
		}
		a := draw("address").As16()
		for i, b := range inside.Addr().As16() {
			switch left := bits - 8*i; {
			case left >= 8:
				a[i] = b
			case left > 0:
				a[i] = a[i]&(0xff>>left) | b
			}
		}
		in := netip.AddrFrom16(a)
		out, ok := tr.Out(in)
		if !ok {
			return
		}
		if !outside.Contains(out) {
			rt.Fatalf("%s is not in %s", out, outside)
		}
		// 0 and 0xffff are the same number.
		if s, was := sum(words(out))%0xffff, sum(words(in))%0xffff; s != was {
			rt.Fatalf("%s has the sum %#x, %s had %#x", out, s, in, was)
		}
		back, ok := tr.In(out)
		if !ok {
			rt.Fatalf("%s has no way back to %s", out, in)
		}
		if at, _ := adjusted(words(in), bits); back != in && words(in)[at] != 0 && words(in)[at] != 0xffff {
			rt.Fatalf("%s is translated back to %s, from %s", out, back, in)
		}
	})
}

func TestTranslationRefuses(t *testing.T) {
	for _, tc := range []struct{ inside, outside, says string }{
		{"fd00::/64", "2001:db8::/48", "/64"},
		{"fd00::/113", "2001:db8::/113", "/112"},
		{"fd00::/64", "fd00::/64", "overlap"},
		{"10.0.0.0/8", "fd00::/8", "IPv6"},
	} {
		if err := translation(tc.inside, tc.outside).Validate(); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s to %s: error %v does not say %q", tc.inside, tc.outside, err, tc.says)
		}
	}
}
