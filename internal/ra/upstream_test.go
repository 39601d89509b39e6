package ra

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

// provider is what a router of the parent link says.
func provider() spec.Advertisement {
	return spec.Advertisement{
		RouterLifetime: 1800, MTU: 1492,
		Prefixes: []spec.AdvertisedPrefix{{Prefix: prefix("2001:db8:2::/48"), OnLink: true, Valid: 3600, Preferred: 600}},
		DNS:      lasting([]netip.Addr{addr("2001:db8::53"), addr("fe80::9")}, time.Hour),
		Search:   lasting([]string{"example.org", "-not a-name"}, 20*time.Minute),
		PREF64:   lasting([]netip.Prefix{prefix("64:ff9b::/96")}, time.Hour),
	}
}

// repeating is what a network says whose parent is eth0.
func repeating() spec.Advertisement {
	a := web()
	a.Upstream, a.Prefixes[0].Upstream = "eth0", true
	return a
}

// upstreamLab has a network on br0, after its initial burst, with the parent eth0.
func upstreamLab(t *testing.T, a spec.Advertisement, test func(t *testing.T, l *lab)) {
	timing(t, func(t *testing.T, l *lab) {
		l.Listen([]string{"eth0"})
		l.Advertise(a)
		l.after(time.Minute)
		test(t, l)
	})
}

func TestUpstreamIsRepeated(t *testing.T) {
	upstreamLab(t, repeating(), func(t *testing.T, l *lab) {
		l.advertise(l.up, "fe80::9", provider())
		all := l.after(time.Second)
		if len(all) != 1 || all[0].to != allNodes {
			t.Fatalf("%+v, want containers told at once, and not at the next time in %v", all, defaultInterval)
		}
		got := all[0].Advertisement
		want := web()
		want.Link, want.Source, want.MTU = "", netip.Addr{}, 1492
		want.Prefixes[0].Valid, want.Prefixes[0].Preferred = 3600, 600
		// A link-local address is no server on another link, and 1800 s are three intervals.
		want.DNS = lasting([]netip.Addr{addr("2001:db8::53")}, 30*time.Minute)
		want.Search = lasting([]string{"example.org"}, 20*time.Minute)
		want.PREF64 = lasting([]netip.Prefix{prefix("64:ff9b::/96")}, 1800*time.Second)
		if diff := gocmp.Diff(want, got, equateNetip); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}

		// The same again is no news, and lifetimes are never longer than what is left.
		l.advertise(l.up, "fe80::9", provider())
		if all := l.after(20 * time.Second); len(all) != 0 {
			t.Errorf("%+v, want no advertisement without news", all)
		}
		l.after(9 * time.Minute)
		l.solicit("fe80::5")
		all = l.after(time.Second)
		last := all[len(all)-1]
		if left := spec.Seconds(600 - 580); last.Prefixes[0].Preferred > left+30 || last.Prefixes[0].Preferred == 0 || last.Search[0].Lifetime > 660 {
			t.Errorf("after 9 min: %+v, search %+v, want less than is left upstream", last.Prefixes, last.Search)
		}

		// It is withdrawn upstream: containers are told so by name.
		gone := final(provider())
		gone.RouterLifetime = 1800
		l.advertise(l.up, "fe80::9", gone)
		all = l.after(20 * time.Second)
		if len(all) == 0 {
			t.Fatal("containers are not told")
		}
		last = all[len(all)-1]
		if len(last.DNS) != 1 || last.DNS[0].Lifetime != 0 || len(last.PREF64) != 1 || last.PREF64[0].Lifetime != 0 || last.Search[0].Lifetime != 0 {
			t.Errorf("DNS %+v, search %+v, NAT64 %+v, want lifetimes of 0", last.DNS, last.Search, last.PREF64)
		}
		if p := last.Prefixes[0]; p.Valid != 0 || p.Preferred != 0 {
			t.Errorf("prefix %+v, want it withdrawn as its whole is", p)
		}
		l.after(time.Hour)
		l.solicit("fe80::5")
		all = l.after(time.Second)
		last = all[len(all)-1]
		if len(last.DNS)+len(last.Search)+len(last.PREF64) != 0 {
			t.Errorf("an hour later: %+v, want it forgotten", all)
		}
	})
}

// What one host was told in an answer is taken back from all.
func TestUpstreamToldInAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Listen([]string{"eth0"})
		l.Advertise(repeating())
		l.after(33 * time.Second) // a second after the burst
		l.advertise(l.up, "fe80::9", provider())
		l.solicit("fe80::5")
		if all := l.after(time.Second); len(all) != 1 || len(all[0].DNS) != 1 || all[0].DNS[0].Lifetime == 0 {
			t.Fatalf("the answer %+v, want the server", all)
		}
		l.advertise(l.up, "fe80::9", final(provider()))
		if all := l.after(20 * time.Second); len(all) != 1 || all[0].to != allNodes || len(all[0].DNS) != 1 || all[0].DNS[0].Lifetime != 0 {
			t.Errorf("%+v, want the server taken back from all", all)
		}
	})
}

// The router of the parent link goes without a word.
func TestUpstreamEnds(t *testing.T) {
	upstreamLab(t, repeating(), func(t *testing.T, l *lab) {
		l.advertise(l.up, "fe80::9", provider())
		for _, s := range l.after(29 * time.Minute) {
			at := s.at - time.Minute
			if left := spec.Seconds((time.Hour - at) / time.Second); s.Prefixes[0].Valid > left+1 {
				t.Errorf("%v after it was heard the prefix is valid for %d s, and %d s are left of it", at, s.Prefixes[0].Valid, left)
			}
		}
		l.after(2 * time.Minute) // no default router
		l.after(10 * time.Minute)
		l.solicit("fe80::5")
		if all := l.after(time.Second); len(all) == 0 || all[len(all)-1].MTU != 1500 {
			t.Errorf("%+v, want our own MTU again", all)
		}
		l.after(3 * time.Hour)
		l.solicit("fe80::5")
		if all := l.after(time.Second); len(all) == 0 || all[len(all)-1].Prefixes[0].Valid != 5400 {
			t.Errorf("%+v, want the prefix as if nobody had said anything", all)
		}
	})
}

// What is set by the user stands, and what is no business of containers is not repeated.
func TestUpstreamIsNotRepeated(t *testing.T) {
	own := repeating()
	own.DNS = lasting([]netip.Addr{addr("2001:db8:2:1::53")}, time.Hour)
	wide := provider()
	wide.Prefixes = append(wide.Prefixes, spec.AdvertisedPrefix{Prefix: prefix("2001:db8:2:1::/64")})
	wrong := provider()
	wrong.Prefixes[0].Preferred = wrong.Prefixes[0].Valid + 1
	router := provider()
	router.RouterLifetime = 0
	other := provider()
	other.Prefixes[0].Prefix = prefix("2001:db8:7::/48")
	for _, tc := range []struct {
		name  string
		ours  spec.Advertisement
		says  spec.Advertisement
		check func(got spec.Advertisement) bool
	}{
		{"ra.dns is set", own, provider(), func(got spec.Advertisement) bool {
			return len(got.DNS) == 1 && got.DNS[0].Value == addr("2001:db8:2:1::53") && len(got.Search) == 1 && len(got.PREF64) == 1
		}},
		{"two prefixes that it is a part of: the longest lifetimes count", repeating(), wide, func(got spec.Advertisement) bool {
			return got.Prefixes[0].Valid == 3600 && got.Prefixes[0].Preferred == 600
		}},
		{"a prefix that is preferred for longer than valid (RFC 4862 §5.5.3 c)", repeating(), wrong, func(got spec.Advertisement) bool {
			return got.Prefixes[0].Valid == 5400 && got.Prefixes[0].Preferred == 2700
		}},
		{"by who is no default router", repeating(), router, func(got spec.Advertisement) bool {
			return len(got.DNS)+len(got.Search)+len(got.PREF64) == 0 && got.MTU == 1500 && got.Prefixes[0].Valid == 5400
		}},
		{"another prefix", repeating(), other, func(got spec.Advertisement) bool { return got.Prefixes[0].Valid == 5400 }},
		{"a network without a parent", web(), provider(), func(got spec.Advertisement) bool {
			return len(got.DNS) == 0 && got.MTU == 1500 && got.Prefixes[0].Valid == 5400
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				defer l.stop()
				l.Listen([]string{"eth0"})
				l.Advertise(tc.ours)
				l.after(time.Minute)
				l.advertise(l.up, "fe80::9", tc.says)
				l.solicit("fe80::5")
				all := l.after(time.Second)
				if len(all) == 0 || !tc.check(all[len(all)-1].Advertisement) {
					t.Errorf("%+v", all)
				}
			})
		})
	}
}

// A neighbour that changes its mind all the time has us say so every 16 s at most.
func TestUpstreamThatFlaps(t *testing.T) {
	upstreamLab(t, repeating(), func(t *testing.T, l *lab) {
		var all []sent
		for i := range 1000 {
			a := provider()
			a.DNS = lasting([]netip.Addr{netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: byte(i >> 8), 15: byte(i)})}, time.Hour)
			a.DNS = append(a.DNS, lasting([]netip.Addr{netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: byte((i - 1) >> 8), 15: byte(i - 1)})}, 0)...)
			l.advertise(l.up, "fe80::9", a)
			all = append(all, l.after(100*time.Millisecond)...)
		}
		if len(all) == 0 || len(all) > 8 {
			t.Errorf("%d advertisements in 100 s, want 7", len(all))
		}
		for _, s := range all {
			if len(s.DNS) > maxItems {
				t.Errorf("%d servers, want %d at most", len(s.DNS), maxItems)
			}
		}
	})
}

// RFC 9096 §3.3: a prefix that the router let end does not come back while the
// router is there, be it that the router says no more of it, or that it had
// withdrawn the prefix before this host listened.
func TestEndedPrefixDoesNotComeBack(t *testing.T) {
	renumbered := provider()
	renumbered.Prefixes[0].Prefix = prefix("2001:db8:7::/48")
	withdrawn := renumbered
	withdrawn.Prefixes = append(final(provider()).Prefixes, renumbered.Prefixes...)
	for _, tc := range []struct {
		name  string
		first spec.Advertisement
		then  spec.Advertisement
	}{
		{"the router says the new one alone", provider(), renumbered},
		{"a daemon starts while the router withdraws it", withdrawn, renumbered},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				defer l.stop()
				l.Listen([]string{"eth0"})
				l.Advertise(repeating())
				l.advertise(l.up, "fe80::9", tc.first)
				for range 6 * 6 {
					l.advertise(l.up, "fe80::9", tc.then)
					l.after(10 * time.Minute)
				}
				l.solicit("fe80::5")
				all := l.after(time.Second)
				if len(all) == 0 || all[len(all)-1].Prefixes[0].Valid != 0 || all[len(all)-1].Prefixes[0].Preferred != 0 {
					t.Errorf("after 6 h %+v, want the prefix that has ended upstream with lifetimes of 0", all)
				}
			})
		})
	}
}
