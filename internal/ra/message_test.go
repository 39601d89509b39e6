package ra

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

var (
	mac    = [6]byte{2, 0, 0, 0, 0, 0xaa}
	prefix = netip.MustParsePrefix
	addr   = netip.MustParseAddr
)

// everything has every option once.
func everything() spec.Advertisement {
	return spec.Advertisement{
		Link: "br0", RouterLifetime: 1800, Preference: spec.PreferenceLow, HopLimit: 64, MTU: 1400,
		Prefixes: []spec.AdvertisedPrefix{
			{Prefix: prefix("2001:db8:1::/64"), OnLink: true, Autonomous: true, Valid: 5400, Preferred: 2700},
			{Prefix: prefix("2001:db8:2::1/64"), Router: true, Delegating: true, Valid: 0xffffffff, Preferred: 0},
		},
		Routes: []spec.AdvertisedRoute{
			{Prefix: prefix("2001:db8:3::/48"), Preference: spec.PreferenceHigh, Lifetime: 1800},
			{Prefix: prefix("2001:db8:4:0:5::/80"), Preference: spec.PreferenceLow, Lifetime: 600},
			{Prefix: prefix("::/0"), Lifetime: 1},
		},
		DNS:           []netip.Addr{addr("2001:db8::53"), addr("fe80::53")},
		Search:        []string{"example.org", "b.example"},
		PREF64:        prefix("64:ff9b::/96"),
		CaptivePortal: "https://portal.example/",
	}
}

// The fields are RFC 4861 §4.2, and each option is under its own RFC.
func TestAdvertisementOnTheWire(t *testing.T) {
	for name, c := range map[string]struct {
		a    spec.Advertisement
		want string
	}{
		"a router that is no default router": {spec.Advertisement{Preference: spec.PreferenceHigh}, `
			86 00 0000 00 00 0000 00000000 00000000
			01 01 0200000000aa`}, // RFC 4191 §2.2: the preference is medium without a lifetime
		"every option": {everything(), `
			86 00 0000 40 18 0708 00000000 00000000
			03 04 40 c0 00001518 00000a8c 00000000 20010db8000100000000000000000000
			03 04 40 30 ffffffff 00000000 00000000 20010db8000200000000000000000001
			18 02 30 08 00000708 20010db800030000
			18 03 50 18 00000258 20010db8000400000005000000000000
			18 01 00 00 00000001
			19 05 0000 00000708 20010db8000000000000000000000053 fe800000000000000000000000000053
			1f 04 0000 00000708 07 6578616d706c65 03 6f7267 00 01 62 07 6578616d706c65 00
			26 02 0708 0064ff9b0000000000000000
			25 04 68747470733a2f2f706f7274616c2e6578616d706c652f 00000000000000
			05 01 0000 00000578
			01 01 0200000000aa`},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := marshal(c.a, mac)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Join(strings.Fields(c.want), ""), hex.EncodeToString(b)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if v := Judge(b, Received{Source: addr("fe80::1"), HopLimit: 255}); v != Heard {
				t.Errorf("our own advertisement is judged %q (RFC 4861 §6.1.2)", v)
			}
		})
	}
}

// RFC 4861 §6.2.5: hosts stop at once to use what is gone.
func TestFinalAdvertisementTakesAllBack(t *testing.T) {
	a := everything()
	b, err := marshalFinal(a, mac)
	if err != nil {
		t.Fatal(err)
	}
	d := Decode(b)
	if d.RouterLifetime != 0 || d.Preference != spec.PreferenceMedium {
		t.Errorf("router lifetime %d, preference %q", d.RouterLifetime, d.Preference)
	}
	for _, p := range d.Prefixes {
		if p.Valid != 0 || p.Preferred != 0 {
			t.Errorf("prefix %+v", p)
		}
	}
	for _, r := range d.Routes {
		if r.Lifetime != 0 {
			t.Errorf("route %+v", r)
		}
	}
	if !strings.Contains(hex.EncodeToString(b), "1905000000000000"+"2001") {
		t.Error("DNS servers keep their lifetime")
	}
	if a.Prefixes[0].Valid == 0 || a.Routes[0].Lifetime == 0 {
		t.Error("the advertisement itself was changed")
	}
}

func TestDecodeReadsWhatMarshalWrites(t *testing.T) {
	want := everything()
	want.Link = "" // not on the wire
	b, err := marshal(everything(), mac)
	if err != nil {
		t.Fatal(err)
	}
	got := Decode(b)
	if diff := cmp.Diff(want, got.Advertisement, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTooLongIsRefused(t *testing.T) {
	a := spec.Advertisement{Link: "br0"}
	for i := range 40 {
		a.Prefixes = append(a.Prefixes, spec.AdvertisedPrefix{Prefix: prefix(fmt.Sprintf("2001:db8:%x::/64", i))})
	}
	if _, err := marshal(a, mac); !errors.Is(err, errTooLong) {
		t.Errorf("1.3 kB of prefixes: %v, want %v (RFC 6980 §5: never a fragment)", err, errTooLong)
	}
}

func TestIntervals(t *testing.T) {
	for lifetime, want := range map[spec.Seconds][2]time.Duration{
		0:    {200 * time.Second, 600 * time.Second},
		9000: {200 * time.Second, 600 * time.Second},
		1800: {200 * time.Second, 600 * time.Second},
		900:  {100 * time.Second, 300 * time.Second},
		30:   {10 * time.Second / 3, 10 * time.Second},
	} {
		least, most := intervals(spec.Advertisement{RouterLifetime: lifetime})
		if least != want[0] || most != want[1] {
			t.Errorf("lifetime %d: %v to %v, want %v (RFC 4861 §6.2.1)", lifetime, least, most, want)
		}
	}
}

// RFC 9096 §3.5: a withdrawn prefix goes out with lifetimes of 0, and is then forgotten.
func TestWithdrawnPrefixIsForgottenInTime(t *testing.T) {
	now := time.Now()
	a := everything()
	a.Prefixes[0].Until, a.Routes[0].Until = now.Add(time.Hour), now.Add(time.Hour)
	if c := current(a, now); len(c.Prefixes) != 2 || len(c.Routes) != 3 {
		t.Errorf("forgotten too early: %+v", c)
	}
	if c := current(a, now.Add(time.Hour)); len(c.Prefixes) != 1 || len(c.Routes) != 2 || len(a.Prefixes) != 2 {
		t.Errorf("after its time: %+v", c)
	}
}

func TestJudge(t *testing.T) {
	host, router := addr("fe80::5"), addr("fe80::1")
	rs := []byte{133, 0, 0, 0, 0, 0, 0, 0}
	ra := append([]byte{134}, make([]byte, 15)...)
	lla := []byte{1, 1, 2, 0, 0, 0, 0, 1}
	with := func(b []byte, more ...byte) []byte { return append(append([]byte(nil), b...), more...) }
	for _, c := range []struct {
		requirement string
		b           []byte
		source      netip.Addr
		hopLimit    int
		want        Verdict
	}{
		{"§6.2.6: answered by unicast", with(rs, lla...), host, 255, Solicited},
		{"§6.1.1: a link-layer address is no must", rs, host, 255, Solicited},
		{"§6.2.6: a global source", rs, addr("2001:db8::5"), 255, Solicited},
		{"§6.2.6: a host without an address", rs, netip.IPv6Unspecified(), 255, SolicitedAll},
		{"§6.1.1: hop limit 255", rs, host, 254, WrongHopLimit},
		{"§6.1.1: code 0", with([]byte{133, 1}, rs[2:]...), host, 255, WrongCode},
		{"§6.1.1: 8 or more octets", rs[:7], host, 255, Short},
		{"§6.1.1: an option of length 0", with(rs, 1, 0, 0, 0, 0, 0, 0, 0), host, 255, WrongOption},
		{"§6.1.1: an option that is cut off", with(rs, 1, 2, 0, 0, 0, 0, 0, 0), host, 255, WrongOption},
		{"§6.1.1: a rest shorter than an option", with(rs, 1), host, 255, WrongOption},
		{"§6.1.1: :: with a link-layer address", with(rs, lla...), netip.IPv6Unspecified(), 255, WrongSource},
		{"RFC 4291 §2.7: no multicast source", rs, allNodes, 255, WrongSource},
		{"§6.1.1: unknown options are ignored", with(rs, 253, 1, 9, 9, 9, 9, 9, 9), host, 255, Solicited},
		{"§6.1.2: an advertisement", ra, router, 255, Heard},
		{"§6.1.2: from a link-local address", ra, addr("2001:db8::1"), 255, WrongSource},
		{"§6.1.2: hop limit 255", ra, router, 64, WrongHopLimit},
		{"§6.1.2: 16 or more octets", ra[:15], router, 255, Short},
		{"nothing", nil, router, 255, Short},
		{"another type", []byte{135, 0, 0, 0, 0, 0, 0, 0}, router, 255, Foreign},
	} {
		if got := Judge(c.b, Received{Len: len(c.b), Source: c.source, HopLimit: c.hopLimit}); got != c.want {
			t.Errorf("RFC 4861 %s: %q, want %q", c.requirement, got, c.want)
		}
	}
}

func FuzzJudge(f *testing.F) {
	b, err := marshal(everything(), mac)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, true)
	f.Add([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1}, false)
	f.Fuzz(func(t *testing.T, b []byte, unspecified bool) {
		source := addr("fe80::5")
		if unspecified {
			source = netip.IPv6Unspecified()
		}
		v := Judge(b, Received{Len: len(b), Source: source, HopLimit: 255})
		if (v == Solicited || v == SolicitedAll) && (b[0] != 133 || b[1] != 0 || len(b) < 8 || len(b)%8 != 0) {
			t.Errorf("took %x for a solicitation", b)
		}
		if v == Heard {
			r := routers{}
			r.hear(time.Now(), source, b)
			r.yield(time.Now(), everything(), nil)
			r.disagreements(everything())
			for _, p := range Decode(b).Prefixes {
				if !p.Prefix.IsValid() {
					t.Errorf("decoded %x to %+v", b, p)
				}
			}
		}
	})
}
