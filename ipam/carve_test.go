package ipam

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"testing"

	"go4.org/netipx"
	"pgregory.net/rapid"
)

func TestCarve(t *testing.T) {
	for _, tt := range []struct {
		name  string
		from  string
		bits  int
		taken []string
		start uint64
		want  string // empty: exhausted
	}{
		{"first", "2001:db8::/64", 80, nil, 0, "2001:db8::/80"},
		{"numbered", "2001:db8::/64", 80, nil, 0xabc, "2001:db8::abc:0:0:0/80"},
		{"number goes round", "2001:db8::/64", 80, nil, 0x1_0000, "2001:db8::/80"},
		{"itself", "2001:db8::/64", 64, nil, 7, "2001:db8::/64"},
		{"over the 64-bit border", "2001:db8::/48", 80, nil, 0x1_2345, "2001:db8:0:1:2345::/80"},
		{"more than 2^64 parts", "::/0", 128, nil, math.MaxUint64, "::ffff:ffff:ffff:ffff/128"},
		{"more than 2^64 parts, high half", "::/0", 96, nil, math.MaxUint64, "::ffff:ffff:ffff:ffff:0:0/96"},
		{"2^64 parts", "2001:db8::/64", 128, nil, math.MaxUint64, "2001:db8::ffff:ffff:ffff:ffff/128"},
		{"all of it", "::/0", 0, nil, 3, "::/0"},
		{"IPv4", "172.16.0.0/12", 24, nil, 257, "172.17.1.0/24"},
		{"IPv4 from everything", "0.0.0.0/0", 32, nil, math.MaxUint64, "255.255.255.255/32"},
		{"next after a taken one", "2001:db8::/64", 80, []string{"2001:db8::/80"}, 0, "2001:db8:0:0:1::/80"},
		{"a taken one inside the part", "2001:db8::/64", 80, []string{"2001:db8::5/128"}, 0, "2001:db8:0:0:1::/80"},
		{"over a taken half", "2001:db8::/64", 80, []string{"2001:db8::/65"}, 1, "2001:db8:0:0:8000::/80"},
		{"goes round", "2001:db8::/64", 80, []string{"2001:db8:0:0:8000::/65"}, 0x9000, "2001:db8::/80"},
		{"overlapping and unmasked taken ones", "2001:db8::/64", 80, []string{"2001:db8::1/80", "2001:db8::/79", "2001:db8:0:0:2::9/127"}, 0, "2001:db8:0:0:3::/80"},
		{"taken ones elsewhere", "2001:db8::/64", 80, []string{"2001:db8:1::/64", "10.0.0.0/8", "::/128"}, 0, "2001:db8::/80"},
		{"covered", "2001:db8::/64", 80, []string{"2001:db8::/32"}, 0, ""},
		{"full", "2001:db8::/64", 65, []string{"2001:db8::1/128", "2001:db8:0:0:ffff::/128"}, 0, ""},
		{"billions of parts, the last one free", "::/0", 64, []string{"::/1", "8000::/2", "c000::/3", "e000::/4", "f000::/5", "f800::/6", "fc00::/7", "fe00::/8", "ff00::/64"}, 5, "ff00:0:0:1::/64"},
		{"at the very end", "ffff::/16", 17, []string{"ffff::/17"}, 0, "ffff:8000::/17"},
		{"nothing after the very end", "ffff::/16", 17, []string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "ffff::/128"}, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var taken []netip.Prefix
			for _, s := range tt.taken {
				taken = append(taken, prefix(s))
			}
			got, err := Carve(prefix(tt.from), tt.bits, taken, tt.start)
			if tt.want == "" {
				want := fmt.Sprintf("%s is exhausted: no free /%d in it", tt.from, tt.bits)
				if !errors.Is(err, ErrExhausted) || err.Error() != want {
					t.Fatalf("%v, %v, want error %q", got, err, want)
				}
				return
			}
			if err != nil || got != prefix(tt.want) {
				t.Errorf("%v, %v, want %s", got, err, tt.want)
			}
		})
	}
}

func TestCarveRefuses(t *testing.T) {
	for _, tt := range []struct {
		from string
		bits int
	}{{"2001:db8::/64", 63}, {"2001:db8::/64", 129}, {"10.0.0.0/8", 33}, {"10.0.0.0/8", -1}, {"", 64}} {
		if got, err := Carve(prefix(tt.from), tt.bits, nil, 0); err == nil || errors.Is(err, ErrExhausted) {
			t.Errorf("a /%d out of %q: %v, %v, want an error that is not exhaustion", tt.bits, tt.from, got, err)
		}
	}
}

// Carve must find what stepping through the parts one by one finds.
func TestCarveAgreesWithStepping(t *testing.T) { rapid.Check(t, carveAgreesWithStepping) }

func FuzzCarve(f *testing.F) { f.Fuzz(rapid.MakeFuzz(carveAgreesWithStepping)) }

func carveAgreesWithStepping(t *rapid.T) {
	from := prefix(rapid.SampledFrom([]string{"2001:db8::/60", "2001:db8::/120", "fff0::/12", "10.0.0.0/24", "255.255.0.0/16"}).Draw(t, "from"))
	width := rapid.IntRange(0, 8).Draw(t, "width")
	bits := from.Bits() + width
	parts := uint64(1) << width
	taken := rapid.SliceOf(rapid.Custom(func(t *rapid.T) netip.Prefix {
		longer := rapid.IntRange(-2, from.Addr().BitLen()-from.Bits()).Draw(t, "longer")
		if longer < 0 { // overlaps from only where it covers it
			return netip.PrefixFrom(rapid.SampledFrom([]netip.Addr{from.Addr(), prefix("::/0").Addr()}).Draw(t, "addr"), from.Bits()+longer)
		}
		return netip.PrefixFrom(part(from, from.Addr().BitLen(), rapid.Uint64().Draw(t, "addr")), from.Bits()+longer)
	})).Draw(t, "taken")
	start := rapid.Uint64().Draw(t, "start")

	var want netip.Prefix
step:
	for i := range parts {
		p := netip.PrefixFrom(part(from, bits, start%parts+i), bits)
		for _, o := range taken {
			if o.Overlaps(p) {
				continue step
			}
		}
		want = p
		break
	}
	got, err := Carve(from, bits, taken, start)
	if got != want || errors.Is(err, ErrExhausted) == want.IsValid() {
		t.Fatalf("Carve: %v, %v, want %v", got, err, want)
	}
}

// part itself, against counting up.
func TestPartCounts(t *testing.T) {
	for _, s := range []string{"2001:db8::/62", "2001:db8::/124", "10.0.0.0/24"} {
		from := prefix(s)
		for width := range 5 {
			bits := from.Bits() + width
			a := from.Addr()
			for i := range uint64(1) << width {
				if got := part(from, bits, i); got != a {
					t.Fatalf("part %d of %s cut into /%d is %s, want %s", i, from, bits, got, a)
				}
				a = netipx.PrefixLastIP(netip.PrefixFrom(a, bits)).Next()
			}
		}
	}
}

func TestPartAndNumber(t *testing.T) {
	for _, tt := range []struct {
		from string
		bits int
		n    uint64
		want string // empty: none
	}{
		{"2001:db8:0:ff00::/56", 64, 0, "2001:db8:0:ff00::/64"},
		{"2001:db8:0:ff00::/56", 64, 255, "2001:db8:0:ffff::/64"},
		{"2001:db8:0:ff00::/56", 64, 256, ""},
		{"2001:db8::/64", 64, 0, "2001:db8::/64"},
		{"2001:db8::/64", 64, 1, ""},
		{"2001:db8::/64", 60, 0, ""},
		{"2001:db8::/48", 80, 0x1_0002, "2001:db8:0:1:2::/80"},
		{"2001:db8::/96", 112, 7, "2001:db8::7:0/112"},
		{"2001:db8::/48", 126, 1 << 63, "2001:db8:0:2::/126"},
	} {
		got, ok := Part(netip.MustParsePrefix(tt.from), tt.bits, tt.n)
		if ok != (tt.want != "") || ok && got.String() != tt.want {
			t.Errorf("part %d of %s in /%d = %s, %t; want %q", tt.n, tt.from, tt.bits, got, ok, tt.want)
		}
		if ok && Number(netip.MustParsePrefix(tt.from), got) != tt.n {
			t.Errorf("%s is part %d of %s, want %d", got, Number(netip.MustParsePrefix(tt.from), got), tt.from, tt.n)
		}
	}
}
