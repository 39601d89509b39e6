package ra

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

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
		DNS:           lasting([]netip.Addr{addr("2001:db8::53"), addr("fe80::53")}, 1800*time.Second),
		Search:        lasting([]string{"example.org", "b.example"}, 1800*time.Second),
		PREF64:        lasting([]netip.Prefix{prefix("64:ff9b::/96")}, 1800*time.Second),
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
			b := one(t, c.a)
			if diff := gocmp.Diff(strings.Join(strings.Fields(c.want), ""), hex.EncodeToString(b)); diff != "" {
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
	b := one(t, final(a))
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
	b := one(t, everything())
	got := Decode(b)
	if diff := gocmp.Diff(want, got.Advertisement, equateNetip); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// one is an advertisement that fits one message.
func one(t testing.TB, a spec.Advertisement) []byte {
	t.Helper()
	b, err := marshal(a, mac)
	if err != nil || len(b) != 1 {
		t.Fatalf("%d messages, %v, want one", len(b), err)
	}
	return b[0]
}

var equateNetip = gocmp.Options{gocmp.Comparer(func(a, b netip.Addr) bool { return a == b }), gocmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

// RFC 4861 §6.2.3: what does not fit one message goes in several, each with the
// header, and none in a fragment (RFC 6980 §5). What is in use comes first.
func TestLongAdvertisementIsSplit(t *testing.T) {
	a := everything()
	a.Managed = true
	for i := range 80 {
		a.Routes = append(a.Routes, spec.AdvertisedRoute{Prefix: prefix(fmt.Sprintf("2001:db8:f:%x::/64", i)), Until: time.Now().Add(time.Hour)})
	}
	for i := range 100 {
		a.Routes = append(a.Routes, spec.AdvertisedRoute{Prefix: prefix(fmt.Sprintf("2001:db8:a:%x::/64", i)), Lifetime: 1800})
	}
	long := strings.Repeat(strings.Repeat("a", 61)+".", 3)
	for i := range 8 { // each an option that fits, all together one that does not
		a.Search = append(a.Search, spec.Lasting[string]{Value: fmt.Sprintf("%s%d.example", long, i), Lifetime: 1800})
	}
	for i := range 200 {
		a.DNS = append(a.DNS, spec.Lasting[netip.Addr]{Value: addr(fmt.Sprintf("2001:db8::%x", 0x1000+i)), Lifetime: 1800})
	}
	messages, err := marshal(a, mac)
	if err != nil || len(messages) < 6 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	var got spec.Advertisement
	withdrawn := false
	for i, b := range messages {
		d := Decode(b)
		if len(b) > maxMessage || d.Unknown != 0 || Judge(b, Received{Source: addr("fe80::1"), HopLimit: 255}) != Heard {
			t.Errorf("message %d: %d octets, %d unknown options", i, len(b), d.Unknown)
		}
		if d.RouterLifetime != a.RouterLifetime || d.Preference != a.Preference || !d.Managed || d.HopLimit != 64 || d.HardwareAddr == nil {
			t.Errorf("message %d has the header %+v, which hosts take for the whole", i, d.Advertisement)
		}
		for _, r := range d.Routes {
			if withdrawn && r.Lifetime > 0 {
				t.Errorf("message %d: %s comes after what is withdrawn", i, r.Prefix)
			}
			withdrawn = withdrawn || r.Lifetime == 0
		}
		got.Prefixes = append(got.Prefixes, d.Prefixes...)
		got.Routes, got.DNS, got.Search = append(got.Routes, d.Routes...), append(got.DNS, d.DNS...), append(got.Search, d.Search...)
	}
	if len(got.Prefixes) != 2 || len(got.Routes) != 183 {
		t.Errorf("%d prefixes and %d routes in all messages, want 2 and 183", len(got.Prefixes), len(got.Routes))
	}
	if diff := gocmp.Diff(a.DNS, got.DNS, equateNetip); diff != "" {
		t.Errorf("DNS servers (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(a.Search, got.Search); diff != "" {
		t.Errorf("search domains (-want +got):\n%s", diff)
	}
}

// RFC 8781 §4.1: in units of 8 seconds, rounded up, and no more than 65528.
func TestPREF64Lifetime(t *testing.T) {
	for lifetime, want := range map[spec.Seconds]spec.Seconds{0: 0, 1: 8, 8: 8, 1801: 1808, 1803: 1808, 65528: 65528, 65535: 65528, spec.Infinity: 65528} {
		d := Decode(one(t, spec.Advertisement{PREF64: []spec.Lasting[netip.Prefix]{{Value: prefix("64:ff9b::/96"), Lifetime: lifetime}}}))
		if len(d.PREF64) != 1 || d.PREF64[0].Lifetime != want {
			t.Errorf("lifetime %d goes out as %+v, want %d", lifetime, d.PREF64, want)
		}
	}
}

// Each option has its own lifetime, and the second of a kind hides no first.
func TestDecodeKeepsLifetimes(t *testing.T) {
	want := spec.Advertisement{
		DNS:    []spec.Lasting[netip.Addr]{{Value: addr("2001:db8::1"), Lifetime: 60}, {Value: addr("2001:db8::2")}},
		Search: []spec.Lasting[string]{{Value: "a.example", Lifetime: 60}, {Value: "b.example"}},
		PREF64: []spec.Lasting[netip.Prefix]{{Value: prefix("64:ff9b::/96"), Lifetime: 64}, {Value: prefix("2001:db8:64::/64")}},
	}
	if diff := gocmp.Diff(want, Decode(one(t, want)).Advertisement, equateNetip); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestIntervals(t *testing.T) {
	for lifetime, want := range map[spec.Seconds][2]time.Duration{
		0:    {450 * time.Second, 600 * time.Second},
		9000: {450 * time.Second, 600 * time.Second},
		1800: {450 * time.Second, 600 * time.Second},
		900:  {225 * time.Second, 300 * time.Second},
		30:   {7500 * time.Millisecond, 10 * time.Second},
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
		{"RFC 6980 §5: a fragment", rs, host, 255, Fragmented},
		{"RFC 6980 §5: a fragment of an advertisement", ra, router, 255, Fragmented},
		{"nothing", nil, router, 255, Short},
		{"another type", []byte{135, 0, 0, 0, 0, 0, 0, 0}, router, 255, Foreign},
	} {
		if got := Judge(c.b, Received{Len: len(c.b), Source: c.source, HopLimit: c.hopLimit, Fragmented: c.want == Fragmented}); got != c.want {
			t.Errorf("RFC 4861 %s: %q, want %q", c.requirement, got, c.want)
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(one(f, everything()), true)
	f.Add(one(f, final(everything())), false)
	f.Add([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1}, false)
	known := Decode(one(f, everything()))
	f.Fuzz(func(t *testing.T, b []byte, unspecified bool) {
		source := addr("fe80::5")
		if unspecified {
			source = netip.IPv6Unspecified()
		}
		v := Judge(b, Received{Len: len(b), Source: source, HopLimit: 255})
		if (v == Solicited || v == SolicitedAll) && (b[0] != 133 || b[1] != 0 || len(b) < 8 || len(b)%8 != 0) {
			t.Errorf("took %x for a solicitation", b)
		}
		if v != Heard {
			return
		}
		now := time.Now()
		d := Decode(b)
		// Into an empty table, into one that knows this router, others, and as many as
		// it can, each a minute after the one before.
		full := routers{}
		for i := range maxRouters - 1 {
			full.hear(now, netip.AddrFrom16([16]byte{0xfe, 0x80, 15: byte(i)}), known)
		}
		r := routers{}
		for _, all := range []routers{r, full} {
			for i, from := range []netip.Addr{source, source, addr("fe80::107"), addr("fe80::108")} {
				said := d
				if i == 1 {
					said.Advertisement = final(d.Advertisement)
				}
				now = now.Add(time.Minute)
				all.hear(now, from, said)
				if len(all) > maxRouters {
					t.Errorf("%d routers are kept", len(all))
				}
				all.yield(now, everything(), claims{})
				all.disagreements(now, everything())
				all.doubtful(now)
				all.status(now)
				for _, h := range all {
					if len(h.prefixes) > maxItems || len(h.routes) > maxItems || len(h.dns) > maxItems || len(h.search) > maxItems || len(h.pref64) > maxItems {
						t.Errorf("more than %d of a kind is kept of a router", maxItems)
					}
				}
				if next := all.expire(now); !next.IsZero() && !next.After(now) {
					t.Errorf("what ends at %v is there at %v", next, now)
				}
			}
		}
		again := r.upstream(now).apply(spec.Advertisement{Link: "br0", MTU: 1500})
		if _, err := marshal(again, mac); err != nil {
			t.Errorf("what was heard cannot be repeated: %v", err)
		}
		roundTrip(t, d)
	})
}

// roundTrip checks that what was read, and written again, is read as the same.
func roundTrip(t *testing.T, d Decoded) {
	t.Helper()
	want := d.Advertisement
	if want.RouterLifetime == 0 {
		want.Preference = spec.PreferenceMedium // RFC 4191 §2.2
	}
	// Of these the ndp package reads what it does not write.
	want.Search, want.CaptivePortal = nil, ""
	for i := range want.Prefixes {
		if p := &want.Prefixes[i]; !p.Router {
			p.Prefix = p.Prefix.Masked()
		}
	}
	messages, err := marshal(want, mac)
	if err != nil {
		t.Fatalf("read, and cannot be written: %v\n%+v", err, want)
	}
	var got spec.Advertisement
	for i, b := range messages {
		d := Decode(b)
		if len(b) > maxMessage || d.Unknown > 0 {
			t.Fatalf("message %d is of %d octets, %d options unknown", i, len(b), d.Unknown)
		}
		all := got
		got = d.Advertisement
		got.MTU = max(got.MTU, all.MTU)
		got.Prefixes, got.Routes = append(all.Prefixes, d.Prefixes...), append(all.Routes, d.Routes...)
		got.DNS, got.PREF64 = append(all.DNS, d.DNS...), append(all.PREF64, d.PREF64...)
	}
	// What is in use comes first, and each lifetime together.
	for _, a := range []*spec.Advertisement{&want, &got} {
		slices.SortStableFunc(a.Prefixes, func(x, y spec.AdvertisedPrefix) int { return cmp.Compare(min(y.Valid, 1), min(x.Valid, 1)) })
		slices.SortStableFunc(a.Routes, func(x, y spec.AdvertisedRoute) int { return cmp.Compare(min(y.Lifetime, 1), min(x.Lifetime, 1)) })
		slices.SortStableFunc(a.DNS, func(x, y spec.Lasting[netip.Addr]) int {
			return cmp.Or(cmp.Compare(x.Lifetime, y.Lifetime), x.Value.Compare(y.Value))
		})
		slices.SortStableFunc(a.PREF64, func(x, y spec.Lasting[netip.Prefix]) int { return cmp.Compare(min(y.Lifetime, 1), min(x.Lifetime, 1)) })
	}
	if diff := gocmp.Diff(want, got, equateNetip); diff != "" {
		t.Errorf("written and read again (-want +got):\n%s", diff)
	}
}
