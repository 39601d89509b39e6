package ra

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// listened is a lab that listens on br0 alone.
func listened(t *testing.T, test func(t *testing.T, l *lab)) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Listen([]string{"br0"})
		synctest.Wait()
		test(t, l)
	})
}

// RFC 4861 §6.3.4: an advertisement takes back nothing that an earlier one said,
// but by name, or by its lifetime.
func TestHeardIsMerged(t *testing.T) {
	listened(t, func(t *testing.T, l *lab) {
		l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 1800, HopLimit: 64, MTU: 1400, Managed: true,
			Prefixes: []spec.AdvertisedPrefix{{Prefix: prefix("2001:db8:1::/64"), OnLink: true, Valid: 5400, Preferred: 2700}},
			Routes:   announced().Routes[:1],
			DNS:      lasting([]netip.Addr{addr("2001:db8::1")}, time.Hour)})
		time.Sleep(time.Minute)
		l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 900,
			Prefixes: []spec.AdvertisedPrefix{{Prefix: prefix("2001:db8:2::/64"), Valid: spec.Infinity, Preferred: 60}},
			Routes:   announced().Routes[1:],
			DNS:      lasting([]netip.Addr{addr("2001:db8::2")}, time.Hour),
			Search:   lasting([]string{"example.org"}, time.Minute),
			PREF64:   lasting([]netip.Prefix{prefix("64:ff9b::/96")}, 80*time.Second)})
		r := l.status().Routers
		if len(r) != 1 {
			t.Fatalf("%d routers, want one", len(r))
		}
		a := r[0]
		if a.RouterLifetime != 900 || a.HopLimit != 64 || a.MTU != 1400 || a.Managed {
			t.Errorf("header %+v, want what is new of it, and hop limit and MTU as before", a)
		}
		if len(a.Prefixes) != 2 || a.Prefixes[0].Valid != 5340 || a.Prefixes[0].Preferred != 2640 || a.Prefixes[1].Valid != spec.Infinity {
			t.Errorf("prefixes %+v, want both, with what is left of their lifetimes", a.Prefixes)
		}
		if len(a.Routes) != 2 || a.Routes[0].Lifetime != 1740 || len(a.DNS) != 2 || a.DNS[0].Lifetime != 3540 || len(a.Search) != 1 || len(a.PREF64) != 1 {
			t.Errorf("routes %+v, DNS %+v, search %+v, NAT64 %+v", a.Routes, a.DNS, a.Search, a.PREF64)
		}

		// What has ended is forgotten, each at its time.
		time.Sleep(70 * time.Second)
		a = l.status().Routers[0]
		if len(a.Search) != 0 || len(a.PREF64) != 1 || a.Prefixes[1].Preferred != 0 {
			t.Errorf("after 70 s: search %+v, NAT64 %+v, prefixes %+v", a.Search, a.PREF64, a.Prefixes)
		}
		l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 900, DNS: lasting([]netip.Addr{addr("2001:db8::1")}, 0),
			Prefixes: []spec.AdvertisedPrefix{{Prefix: prefix("2001:db8:1::/64"), OnLink: true}}})
		a = l.status().Routers[0]
		if len(a.DNS) != 1 || a.DNS[0].Value != addr("2001:db8::2") {
			t.Errorf("DNS %+v, want the one that was not withdrawn", a.DNS)
		}
		if len(a.Prefixes) != 2 || a.Prefixes[0].Valid != 0 {
			t.Errorf("prefixes %+v, want the first known as withdrawn", a.Prefixes)
		}
	})
}

// A router is known for as long as what it said holds, and asked before it is dropped.
func TestRouterIsAskedBeforeItIsForgotten(t *testing.T) {
	listened(t, func(t *testing.T, l *lab) {
		l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 9000})
		time.Sleep(9000*time.Second - 13*time.Second)
		l.asked()
		if len(l.status().Routers) != 1 {
			t.Fatal("a router that gave itself 9000 s is forgotten before")
		}
		time.Sleep(12 * time.Second)
		if n := l.asked(); n != maxSolicitations {
			t.Errorf("%d solicitations before it is dropped, want %d", n, maxSolicitations)
		}
		l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 9000})
		time.Sleep(time.Minute)
		if len(l.status().Routers) != 1 {
			t.Error("it has answered, and is dropped")
		}
		time.Sleep(9000 * time.Second)
		if len(l.status().Routers) != 0 {
			t.Error("it is silent, and is not dropped")
		}
		if n := l.asked(); n != maxSolicitations {
			t.Errorf("%d solicitations before that, want %d", n, maxSolicitations)
		}
	})
}

// One that says the shortest of lifetimes again and again has us ask once a minute.
func TestDoubtsAreRare(t *testing.T) {
	listened(t, func(t *testing.T, l *lab) {
		time.Sleep(time.Minute)
		l.asked()
		for range 600 {
			l.advertise(l.link, "fe80::9", spec.Advertisement{Routes: []spec.AdvertisedRoute{{Prefix: prefix("2001:db8::/64"), Lifetime: 1}}})
			time.Sleep(time.Second)
		}
		if n := l.asked(); n > 11*maxSolicitations {
			t.Errorf("%d solicitations in 10 min, want %d at most", n, 11*maxSolicitations)
		}
	})
}

// However much a router says, it is not kept without end.
func TestHeardIsBounded(t *testing.T) {
	listened(t, func(t *testing.T, l *lab) {
		var a spec.Advertisement
		for i := range 40 * maxItems {
			b := [16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0, byte(i >> 8), byte(i)}
			p := netip.PrefixFrom(netip.AddrFrom16(b), 64)
			a.Prefixes = append(a.Prefixes, spec.AdvertisedPrefix{Prefix: p, Valid: 100})
			a.Routes = append(a.Routes, spec.AdvertisedRoute{Prefix: p, Lifetime: 100})
			a.DNS = append(a.DNS, spec.Lasting[netip.Addr]{Value: p.Addr(), Lifetime: 100})
			a.Search = append(a.Search, spec.Lasting[string]{Value: fmt.Sprintf("d%d.example", i), Lifetime: 100})
			a.PREF64 = append(a.PREF64, spec.Lasting[netip.Prefix]{Value: netip.PrefixFrom(p.Addr(), 96), Lifetime: 100})
		}
		l.advertise(l.link, "fe80::9", a)
		if r := l.status().Routers[0]; len(r.Prefixes) != maxItems || len(r.Routes) != maxItems || len(r.DNS) != maxItems {
			t.Errorf("%d prefixes, %d routes, %d servers are kept, want %d of each", len(r.Prefixes), len(r.Routes), len(r.DNS), maxItems)
		} else if len(r.Search) != maxItems || len(r.PREF64) != maxItems {
			t.Errorf("%d search domains, %d NAT64 prefixes are kept, want %d of each", len(r.Search), len(r.PREF64), maxItems)
		}
	})
}

// What has ended gives way to what has not.
func TestEndedPrefixesGiveWay(t *testing.T) {
	listened(t, func(t *testing.T, l *lab) {
		a := spec.Advertisement{RouterLifetime: 9000}
		numbered := func(from, n int, lifetime spec.Seconds) (all []spec.AdvertisedPrefix) {
			for i := range n {
				p := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 7: byte(from + i)}), 64)
				all = append(all, spec.AdvertisedPrefix{Prefix: p, Valid: lifetime})
			}
			return all
		}
		a.Prefixes = append(numbered(0, 1, 0), numbered(1, maxItems-1, 100)...)
		l.advertise(l.link, "fe80::9", a)
		a.Prefixes = numbered(100, 2, 100)
		l.advertise(l.link, "fe80::9", a)
		got := l.status().Routers[0].Prefixes
		if len(got) != maxItems || got[0].Prefix != numbered(1, 1, 0)[0].Prefix || got[len(got)-1].Prefix != numbered(100, 1, 0)[0].Prefix {
			t.Errorf("%d prefixes %+v, want the one that had ended replaced, and no other", len(got), got)
		}
		time.Sleep(5 * time.Hour) // no default router any more for 2 h
		l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 9000})
		if got := l.status().Routers[0].Prefixes; len(got) != 0 {
			t.Errorf("%d prefixes that ended before the router was away are kept", len(got))
		}
	})
}

// Whoever sends under many addresses does not have us deaf: a default router gets
// in, and is not driven out by those that are none.
func TestManyRouters(t *testing.T) {
	for _, tc := range []struct {
		name     string
		lifetime spec.Seconds // of the spoofed ones
	}{{"none is a default router", 0}, {"all are", 9000}} {
		t.Run(tc.name, func(t *testing.T) {
			listened(t, func(t *testing.T, l *lab) {
				lasting := spec.Advertisement{RouterLifetime: tc.lifetime, MTU: 1400,
					Prefixes: []spec.AdvertisedPrefix{{Prefix: prefix("2001:db8::/64"), Valid: spec.Infinity, Preferred: spec.Infinity}},
					Routes:   []spec.AdvertisedRoute{{Prefix: prefix("2001:db8::/64"), Lifetime: spec.Infinity}}}
				spoof := func() {
					for i := range 1000 {
						l.advertise(l.link, fmt.Sprintf("fe80::9:%x", i), lasting)
						time.Sleep(time.Millisecond)
					}
				}
				spoof()
				l.advertise(l.link, "fe80::8", spec.Advertisement{RouterLifetime: 1800})
				if n := len(l.status().Routers); n != maxRouters || l.status().Routers[0].Source != addr("fe80::8") {
					t.Errorf("%d routers are kept, want %d, and the one that came last among them", n, maxRouters)
				}
				if lasting.RouterLifetime == 0 {
					spoof()
					if s := l.status(); s.Routers[0].Source != addr("fe80::8") {
						t.Errorf("a default router gave way to %s, which is none", s.Routers[0].Source)
					}
				}
				time.Sleep(5 * time.Hour) // the longest lifetime, and 2 h
				if n := len(l.status().Routers); n != 0 {
					t.Errorf("%d routers are kept of which nothing is heard any more", n)
				}
			})
		})
	}
}

// One that gives all it says no end is asked, too, before it is forgotten.
func TestRouterWithoutAnEndIsAsked(t *testing.T) {
	listened(t, func(t *testing.T, l *lab) {
		a := spec.Advertisement{Routes: []spec.AdvertisedRoute{{Prefix: prefix("2001:db8::/64"), Lifetime: spec.Infinity}}}
		l.advertise(l.link, "fe80::9", a)
		time.Sleep(silence - 13*time.Second)
		l.asked()
		time.Sleep(12 * time.Second)
		if n := l.asked(); n != maxSolicitations || len(l.status().Routers) != 1 {
			t.Errorf("%d solicitations before it is dropped, want %d, and the router still known: %d", n, maxSolicitations, len(l.status().Routers))
		}
		l.advertise(l.link, "fe80::9", a)
		time.Sleep(time.Minute)
		if len(l.status().Routers) != 1 {
			t.Error("it has answered, and is dropped")
		}
		time.Sleep(silence)
		if len(l.status().Routers) != 0 {
			t.Error("it is silent, and is not dropped")
		}
	})
}

// Text from the wire that may do something to a terminal is not kept.
func TestControlCharactersAreNotKept(t *testing.T) {
	listened(t, func(t *testing.T, l *lab) {
		var search []string
		for _, bad := range []string{"\x1b[2J", "\u009b2J", "\x7f", "\x9b", "\u202e", "a\nb"} {
			search = append(search, bad+".example")
			l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 1800, CaptivePortal: "https://p.example/" + bad})
		}
		l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 1800, Search: lasting(append(search, "example.org"), time.Minute)})
		if r := l.status().Routers[0]; len(r.Search) != 1 || r.Search[0].Value != "example.org" || r.CaptivePortal != "" {
			t.Errorf("search domains %+q, captive portal %q, want what can be shown", fmt.Sprint(r.Search), r.CaptivePortal)
		}
		l.advertise(l.link, "fe80::9", spec.Advertisement{CaptivePortal: "https://p.example/"})
		if r := l.status().Routers[0]; r.CaptivePortal != "https://p.example/" {
			t.Errorf("captive portal %q", r.CaptivePortal)
		}
	})
}
