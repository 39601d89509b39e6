package ra

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// web is what a network's bridge says.
func web() spec.Advertisement {
	return spec.Advertisement{
		Link: "br0", Source: addr("fe80::1:1:2:3"), HopLimit: 64, MTU: 1500, RouterLifetime: 1800,
		Prefixes: []spec.AdvertisedPrefix{{Prefix: prefix("2001:db8:2:1::/64"), OnLink: true, Valid: 5400, Preferred: 2700}},
	}
}

// timing runs a test many times over: the schedule is random.
func timing(t *testing.T, test func(t *testing.T, l *lab)) {
	for i := range 50 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				test(t, l)
				l.stop()
			})
		})
	}
}

func TestUnsolicited(t *testing.T) {
	var total, runs int
	timing(t, func(t *testing.T, l *lab) {
		l.Advertise(web())
		all := l.after(4 * time.Hour)
		if len(all) == 0 || all[0].at != 0 {
			t.Fatalf("nothing is sent when advertising begins: %v", all)
		}
		for i, s := range all {
			if s.to != allNodes {
				t.Errorf("advertisement %d goes to %s, want ff02::1 (RFC 4861 §6.2.4)", i, s.to)
			}
			if i == 0 {
				continue
			}
			gap := s.at - all[i-1].at
			least, most := 450*time.Second, 600*time.Second
			if i < 3 {
				least, most = 16*time.Second, 16*time.Second
			}
			if gap < least || gap > most {
				t.Errorf("advertisement %d comes after %v, want %v to %v (RFC 4861 §6.2.4)", i, gap, least, most)
			}
		}
		total += len(all) - 3
		runs++
	})
	// RFC 7772 §5.1: no more than 7 an hour wake up every host that sleeps.
	if perHour := float64(total) / float64(runs) / 4; perHour > 7 {
		t.Errorf("%.2f multicast advertisements an hour, want 7 at most", perHour)
	}
}

func TestIntervalsAreRandom(t *testing.T) {
	seen := map[time.Duration]bool{}
	timing(t, func(t *testing.T, l *lab) {
		l.Advertise(web())
		all := l.after(time.Hour)
		seen[all[3].at-all[2].at] = true
	})
	if len(seen) < 40 {
		t.Errorf("%d different intervals of 50 (RFC 4861 §6.2.4: uniformly distributed)", len(seen))
	}
}

func TestSolicited(t *testing.T) {
	timing(t, func(t *testing.T, l *lab) {
		l.Advertise(web())
		l.after(time.Minute) // the initial burst
		began := time.Since(l.began)
		l.solicit("fe80::5")
		l.solicit("fe80::5") // again: one answer is enough
		l.solicit("2001:db8:2:1::7")
		all := l.after(maxDelay)
		if len(all) != 2 || all[0].to == all[1].to {
			t.Fatalf("answers: %+v, want one to each host", all)
		}
		for _, s := range all {
			if s.to.IsMulticast() {
				t.Errorf("answered to %s, want unicast (RFC 7772 §5.1)", s.to)
			}
			if delay := s.at - began; delay < 0 || delay > maxDelay {
				t.Errorf("answered after %v, want 0 to 500 ms (RFC 4861 §6.2.6)", delay)
			}
		}
		l.solicit("fe80::5")
		if all := l.after(maxDelay); len(all) != 1 || all[0].to != addr("fe80::5") {
			t.Errorf("the next solicitation: %+v, want an answer", all)
		}
	})
}

// RFC 4861 §6.2.6: multicast advertisements are three seconds apart, whatever is asked.
func TestMulticastSpacing(t *testing.T) {
	timing(t, func(t *testing.T, l *lab) {
		l.Advertise(web())
		var all []sent
		for range 100 {
			l.solicit("::")
			all = append(all, l.after(100*time.Millisecond)...)
		}
		a := web()
		for i := range 10 {
			a.MTU = 1400 + i // RFC 4861 §6.2.4: what has changed is told at once
			l.Advertise(a)
			l.LinkChanged("br0")
			all = append(all, l.after(time.Second)...)
		}
		if len(all) < 4 || len(all) > 8 {
			t.Errorf("%d advertisements in 20 s of solicitations, want 4 to 8", len(all))
		}
		for i := 1; i < len(all); i++ {
			if gap := all[i].at - all[i-1].at; gap < minDelayBetween {
				t.Errorf("%v between two multicast advertisements, want 3 s", gap)
			}
		}
	})
}

func TestSolicitorsWithoutEnd(t *testing.T) {
	timing(t, func(t *testing.T, l *lab) {
		l.Advertise(web())
		l.after(time.Minute)
		for i := range 1000 {
			l.solicit(fmt.Sprintf("fe80::1:%x", i))
		}
		all := l.after(maxDelay)
		if len(all) > maxUnicast+1 {
			t.Errorf("%d answers at once to 1000 hosts, want %d and a multicast one", len(all), maxUnicast)
		}
		multicast := 0
		for _, s := range all {
			if s.to == allNodes {
				multicast++
			}
		}
		if multicast != 1 {
			t.Errorf("%d multicast answers for the rest, want 1", multicast)
		}
	})
}

// corerad 1.3.1 is deaf after five of them in a row.
func TestBadPacketsEndNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Advertise(web())
		l.after(time.Minute)
		for range 10_000 {
			l.hear([]byte{133, 0, 0, 0, 0, 0, 0, 0}, addr("fe80::6"), 64)
			l.hear([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 0}, addr("fe80::6"), 255)
			l.hear(nil, addr("fe80::6"), 255)
		}
		l.solicit("fe80::5")
		if all := l.after(maxDelay); len(all) != 1 || all[0].to != addr("fe80::5") {
			t.Errorf("after bad packets a solicitation is answered with %+v", all)
		}
		if c := l.status().Counters; c[string(WrongHopLimit)] != 10_000 || c[string(WrongOption)] != 10_000 || c[string(Short)] != 10_000 {
			t.Errorf("counters %v", c)
		}
		if l.link.dials != 1 {
			t.Errorf("dialed %d times: a bad packet is no fault of the link", l.link.dials)
		}
	})
}

func TestWithdrawSaysFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Advertise(web())
		l.after(time.Minute)
		l.Withdraw(t.Context(), "br0")
		all := append(l.advertised(), l.after(time.Hour)...)
		if len(all) != 3 {
			t.Errorf("%d final advertisements, want 3: any of them may be lost (RFC 4861 §6.2.5)", len(all))
		}
		for i, s := range all {
			if s.to != allNodes || s.RouterLifetime != 0 || s.Prefixes[0].Valid != 0 {
				t.Errorf("at the end %+v is sent, want lifetimes of 0 (RFC 4861 §6.2.5)", s)
			}
			if i > 0 && s.at-all[i-1].at < minDelayBetween {
				t.Errorf("%v between two of them, want 3 s (RFC 4861 §6.2.6)", s.at-all[i-1].at)
			}
		}
		if len(l.Status()) != 0 {
			t.Errorf("after the end the status is %v", l.Status())
		}
		l.Withdraw(t.Context(), "br0")
		l.Withdraw(t.Context(), "never")
	})
}

// A daemon that is updated takes nothing from its networks.
func TestStopSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.Advertise(web())
		l.after(time.Minute)
		l.stop()
		if all := l.advertised(); len(all) != 0 {
			t.Errorf("at the daemon's end %+v is sent, want nothing", all)
		}
		l.Withdraw(t.Context(), "br0") // of one that runs no more
	})
}

func TestChangesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Advertise(web())
		l.after(time.Minute)
		l.Advertise(web())
		if all := l.after(10 * time.Second); len(all) != 0 {
			t.Errorf("the same again: %+v, want nothing", all)
		}
		a := web()
		a.Prefixes[0].Valid, a.Prefixes[0].Preferred, a.Prefixes[0].Until = 0, 0, time.Now().Add(90*time.Minute)
		l.Advertise(a)
		all := l.after(time.Minute)
		if len(all) != 3 || all[0].at != 70*time.Second || all[0].Prefixes[0].Valid != 0 {
			t.Errorf("a withdrawn prefix: %+v, want three advertisements at once (RFC 4861 §6.2.4, RFC 9096 §3.5)", all)
		}
		all = l.after(2 * time.Hour)
		if last := all[len(all)-1]; len(all[0].Prefixes) != 1 || len(last.Prefixes) != 0 {
			t.Errorf("after its time the prefix is still told: %+v", last)
		}
	})
}

func TestLinkComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.link.gone = true
		l.Advertise(web())
		if s := l.status(); s.Error != errGone.Error() {
			t.Errorf("error %q, want %q", s.Error, errGone)
		}
		l.change(func(f *fakeLink) { f.gone, f.noCarrier = false, true })
		l.after(time.Minute)
		if s := l.status(); s.Error == "" || s.Counters["unsent"] == 0 {
			t.Errorf("a bridge without a container: status %+v", s)
		}
		// The first container's link comes up.
		l.change(func(f *fakeLink) { f.noCarrier = false })
		all := l.after(time.Minute)
		if len(all) != 3 || all[0].at > 64*time.Second {
			t.Errorf("when the carrier comes: %+v, want the initial burst", all)
		}
		if s := l.status(); s.Error != "" {
			t.Errorf("error %q", s.Error)
		}
		// So does the hundredth's.
		for range 100 {
			l.change(func(*fakeLink) {})
		}
		if all := l.after(time.Minute); len(all) != 0 {
			t.Errorf("events without a change: %+v, want nothing", all)
		}
		l.change(func(f *fakeLink) { f.mac[5]++ })
		if all := l.after(time.Minute); len(all) != 3 || all[0].HardwareAddr[5] != mac[5]+1 {
			t.Errorf("a new MAC: %+v, want it told", all)
		}
		// A socket that fails is opened anew.
		dials := l.link.dials
		_ = l.link.conn.Close()
		l.after(time.Minute)
		if l.link.dials != dials+1 {
			t.Errorf("dialed %d times after the socket failed, want once", l.link.dials-dials)
		}
	})
}

func TestRunStartsWhatWasAskedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.stop()
		s := NewSupervisor(l.dial, time.Now, l.log)
		s.Listen([]string{"eth0"})
		s.Advertise(spec.Advertisement{Link: "br0", MTU: 1280})
		s.Advertise(web())
		time.Sleep(time.Minute)
		if all := l.advertised(); len(all) != 0 || l.link.dials != 0 || l.up.dials != 0 {
			t.Errorf("before Run %+v is sent, and links are dialed %d times", all, l.link.dials+l.up.dials)
		}
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		if all := l.after(time.Second); len(all) != 1 || all[0].MTU != 1500 || len(all[0].Prefixes) != 1 || l.link.dials != 1 || l.up.dials != 1 {
			t.Errorf("with Run %+v is sent, and links are dialed %d and %d times, want what was asked for last, and both links open", all, l.link.dials, l.up.dials)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

// announced is what a host tells its parent link of a pool.
func announced() spec.Advertisement {
	return spec.Advertisement{Link: "br0", Routes: []spec.AdvertisedRoute{
		{Prefix: prefix("2001:db8:2::/64"), Lifetime: 1800}, {Prefix: prefix("2001:db8:3::/64"), Lifetime: 1800},
	}}
}

func otherRouter(t *testing.T, a spec.Advertisement) [][]byte {
	t.Helper()
	b, err := marshal(a, [6]byte{2, 0, 0, 0, 0, 9})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnnouncedRouteYieldsToAnotherRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Advertise(announced())
		synctest.Wait()
		if len(l.link.sent) != 1 || !l.link.sent[0].solicitation || l.link.sent[0].to != allRouters {
			t.Fatalf("at first %+v is sent, want a solicitation: who was here before must have been heard", l.link.sent)
		}
		time.Sleep(time.Second)
		l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 1800, Routes: []spec.AdvertisedRoute{{Prefix: prefix("2001:db8:3::/64"), Lifetime: 1800}}})
		all := l.after(time.Minute)
		if len(all) != 3 || all[0].at < listenFirst || all[0].RouterLifetime != 0 {
			t.Fatalf("%+v, want three advertisements after %v", all, listenFirst)
		}
		if r := all[0].Routes; len(r) != 1 || r[0].Prefix != prefix("2001:db8:2::/64") {
			t.Errorf("routes %+v, want the one that is not another router's", r)
		}
		if s := l.status(); len(s.Notes) != 1 || len(s.Routes) != 1 {
			t.Errorf("notes %q, routes %+v, want why a route is missing, and the one that was announced", s.Notes, s.Routes)
		}
		// One that is ours stays ours.
		l.advertise(l.link, "fe80::9", spec.Advertisement{Routes: announced().Routes})
		l.solicit("fe80::5")
		if all := l.after(time.Second); len(all) != 1 || len(all[0].Routes) != 1 {
			t.Errorf("%+v, want the route that was ours before", all)
		}
		// RFC 4861 §6.3.4: an advertisement without the route does not take it back.
		l.advertise(l.link, "fe80::9", spec.Advertisement{})
		l.solicit("fe80::5")
		if all := l.after(time.Second); len(all) != 1 || len(all[0].Routes) != 1 {
			t.Errorf("%+v, want the one route still: the other router has not withdrawn its own", all)
		}
		// The other router does.
		l.advertise(l.link, "fe80::9", final(announced()))
		all = l.after(20 * time.Second)
		if len(all) != 1 || all[0].to != allNodes || len(all[0].Routes) != 2 {
			t.Errorf("%+v, want all told of both routes now that the other is gone", all)
		}
		// The farewell takes back our own.
		time.Sleep(time.Minute)
		l.advertised()
		l.Withdraw(t.Context(), "br0")
		if all := l.advertised(); len(all) != 1 || len(all[0].Routes) != 2 || all[0].Routes[0].Lifetime != 0 {
			t.Errorf("at the end: %+v", all)
		}
	})
}

// Who asks while others are listened for gets no route that is another's.
func TestSolicitationDoesNotEndTheListening(t *testing.T) {
	timing(t, func(t *testing.T, l *lab) {
		l.Advertise(announced())
		l.solicit("fe80::5")
		l.solicit("::")
		if all := l.after(2 * time.Second); len(all) != 0 {
			t.Fatalf("before the others were heard %+v is sent", all)
		}
		l.advertise(l.link, "fe80::9", announced())
		l.solicit("fe80::5")
		if all := l.after(25 * time.Minute); len(all) != 0 {
			t.Errorf("%+v is sent, and all routes are another router's", all)
		}
		if s := l.status(); len(s.Routes) != 0 || len(s.Notes) != 2 {
			t.Errorf("status %+v, want no route announced and two notes", s)
		}
	})
}

// RFC 4861 §6.3.7: three questions, so that two may be lost, or their answers.
func TestListeningOutlivesLostMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Advertise(announced())
		time.Sleep(10 * time.Second)
		if n := l.asked(); n != maxSolicitations {
			t.Errorf("%d solicitations in 10 s, want %d", n, maxSolicitations)
		}
		l.advertise(l.link, "fe80::9", announced()) // the answer to the last
		if all := l.after(time.Minute); len(all) != 0 {
			t.Errorf("%+v is announced although another router does", all)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Advertise(announced())
		time.Sleep(time.Second)
		l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 1800})
		time.Sleep(time.Minute)
		if n := l.asked(); n != 1 {
			t.Errorf("%d solicitations, want no other after a router's answer (RFC 4861 §6.3.7)", n)
		}
	})
}

// Of two hosts that began to announce the same at the same time one ends it.
func TestConflictIsResolved(t *testing.T) {
	for _, tc := range []struct {
		name   string
		source string
		other  spec.Advertisement
		yields bool
	}{
		{"a host with a higher address", "fe80::9", announced(), false},
		{"a host with a lower address", "fe80::", announced(), true},
		{"a default router", "fe80::9", spec.Advertisement{RouterLifetime: 1800, Routes: announced().Routes}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t) // fe80::1
				defer l.stop()
				l.Advertise(announced())
				if all := l.after(time.Minute); len(all) != 3 || len(all[0].Routes) != 2 {
					t.Fatalf("announced %+v", all)
				}
				l.advertise(l.link, tc.source, tc.other)
				all := l.after(25 * time.Minute)
				if len(all) == 0 {
					t.Fatal("nothing is advertised any more")
				}
				for _, s := range all {
					for _, r := range s.Routes {
						if (r.Lifetime == 0) != tc.yields {
							t.Errorf("after %v: %+v, want it withdrawn: %t", s.at, r, tc.yields)
						}
					}
				}
				if tc.yields && len(all[0].Routes) != 2 {
					t.Errorf("%+v, want both routes withdrawn by name", all[0].Routes)
				}
				if first := all[0].at; tc.yields && first > 80*time.Second {
					t.Errorf("withdrawn after %v, want soon", first)
				}
				// Nobody says it any more.
				l.advertise(l.link, tc.source, final(tc.other))
				all = l.after(20 * time.Minute)
				if len(all) == 0 || len(all[0].Routes) != 2 || all[0].Routes[0].Lifetime == 0 {
					t.Errorf("with the other gone: %+v, want both routes", all)
				}
			})
		})
	}
}

// Two hosts that come up at the same time and are told to announce the same: in
// the end one does, and hosts know of no route by the other.
func TestTwoHostsAnnounceTheSame(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			hosts := []*lab{newLab(t), newLab(t)}
			routes := make([]map[netip.Prefix]spec.Seconds, len(hosts)) // as hosts of the link know them by each
			for i, l := range hosts {
				defer l.stop()
				a := announced()
				a.Source = addr(fmt.Sprintf("fe80::a%d", i))
				l.Advertise(a)
				routes[i] = map[netip.Prefix]spec.Seconds{}
			}
			for range 5 * 60 * 4 { // steps of 250 ms, in which each hears the other
				for i, l := range hosts {
					synctest.Wait()
					l.link.mu.Lock()
					all := l.link.sent
					l.link.sent = nil
					l.link.mu.Unlock()
					for _, s := range all {
						for _, r := range s.Routes {
							routes[i][r.Prefix] = r.Lifetime
						}
						if !s.to.IsMulticast() {
							continue
						}
						hosts[1-i].receive(hosts[1-i].link, s.raw, Received{Source: addr(fmt.Sprintf("fe80::a%d", i)), HopLimit: 255})
					}
				}
				time.Sleep(250 * time.Millisecond)
			}
			for _, r := range announced().Routes {
				if by := []bool{routes[0][r.Prefix] > 0, routes[1][r.Prefix] > 0}; by[0] == by[1] {
					t.Errorf("after 5 min route %s is known by the two hosts: %v, want it by one of them", r.Prefix, by)
				}
			}
		})
	}
}

// The farewell on the parent keeps the routers' M and O, and names no route but ours.
func TestFarewellOnTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Listen([]string{"br0"})
		l.Advertise(announced())
		time.Sleep(time.Second)
		l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 1800, Managed: true, Other: true, Routes: announced().Routes[1:]})
		a := announced()
		a.Routes = append(a.Routes, spec.AdvertisedRoute{Prefix: prefix("2001:db8:4::/64"), Until: time.Now().Add(time.Hour)})
		l.Advertise(a)
		l.after(time.Minute)
		l.Withdraw(t.Context(), "br0")
		all := append(l.advertised(), l.after(time.Minute)...)
		if len(all) != 3 {
			t.Fatalf("%d final advertisements, want 3", len(all))
		}
		for _, s := range all {
			if !s.Managed || !s.Other || len(s.Routes) != 2 || s.Routes[0].Prefix != prefix("2001:db8:2::/64") || s.Routes[1].Prefix != prefix("2001:db8:4::/64") || s.Routes[0].Lifetime != 0 {
				t.Errorf("final %+v, want M, O, our route and the one that is withdrawn", s)
			}
		}
		if s := l.status(); len(s.Routers) != 1 || len(s.Routes) != 0 || !s.Sent.IsZero() {
			t.Errorf("afterwards the status is %+v, want the router alone", s)
		}
	})
}

// RFC 4861 §6.2.6: final ones keep their distance, too.
func TestFarewellIsSpaced(t *testing.T) {
	timing(t, func(t *testing.T, l *lab) {
		l.Advertise(web())
		l.after(time.Second) // the first has gone out
		l.Withdraw(t.Context(), "br0")
		all := append(l.advertised(), l.after(time.Minute)...)
		if len(all) != 3 || all[0].at < minDelayBetween {
			t.Errorf("%+v, want final advertisements from 3 s on", all)
		}
	})
}

// What is wanted again is not taken back any longer.
func TestFarewellIsCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Advertise(web())
		l.after(time.Minute)
		l.Withdraw(t.Context(), "br0")
		l.advertised()
		l.Advertise(web())
		all := l.after(time.Minute)
		if len(all) != 3 || all[0].RouterLifetime == 0 || all[2].RouterLifetime == 0 {
			t.Errorf("%+v, want the initial burst and no farewell", all)
		}
		if s := l.status(); s.RouterLifetime != 1800 {
			t.Errorf("status %+v", s)
		}
	})
}

// A host without a route back hears what all hear. That is no fault of the link.
func TestUnreachableSolicitor(t *testing.T) {
	timing(t, func(t *testing.T, l *lab) {
		l.link.unrouted = true
		l.Advertise(web())
		l.after(time.Minute)
		l.solicit("2001:db8:9::9")
		all := l.after(time.Second)
		if len(all) != 1 || all[0].to != allNodes {
			t.Errorf("%+v, want an answer to all nodes", all)
		}
		if s := l.status(); s.Error != "" || s.Counters["unsent"] != 1 {
			t.Errorf("status %+v, want no error and one message unsent", s)
		}
		l.change(func(*fakeLink) {})
		if all := l.after(time.Minute); len(all) != 0 {
			t.Errorf("the next event of the link: %+v, want no burst", all)
		}
	})
}

// The status is what went out, and not what should have.
func TestStatusIsWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.link.noCarrier = true
		l.Advertise(web())
		if s := l.status(); !s.Sent.IsZero() || len(s.Prefixes) != 0 || s.Error == "" {
			t.Errorf("nothing has gone out, and the status is %+v", s)
		}
		l.change(func(f *fakeLink) { f.noCarrier = false })
		if s := l.status(); s.Sent.IsZero() || len(s.Prefixes) != 1 || s.RouterLifetime != 1800 || s.Error != "" {
			t.Errorf("status %+v", s)
		}
	})
}

// Before Run has begun, a daemon that starts takes back what an earlier one said.
func TestWithdrawBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.stop()
		s := NewSupervisor(l.dial, time.Now, l.log)
		s.Advertise(web())
		withdrawn := make(chan struct{})
		go func() { s.Withdraw(t.Context(), "br0"); close(withdrawn) }()
		synctest.Wait()
		select {
		case <-withdrawn:
			t.Error("it does not wait for Run, and the link may be gone when that begins")
		default:
		}
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		<-withdrawn
		if all := l.advertised(); len(all) != 1 || all[0].Prefixes[0].Valid != 0 {
			t.Errorf("%+v is sent, want a farewell", all)
		}
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
}

func TestDisagreementsAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Advertise(web())
		synctest.Wait()
		other := web()
		other.HopLimit, other.MTU, other.Prefixes[0].Valid = 32, 1280, 86400
		for i := range 1000 { // more routers than anybody keeps in mind
			l.advertise(l.link, fmt.Sprintf("fe80::9:%x", i), other)
		}
		l.advertise(l.link, web().Source.String(), other) // our own, looped back
		l.after(time.Minute)
		if notes := l.status().Notes; len(notes) != 4*maxRouters {
			t.Errorf("%d notes, want 4 for each of %d routers: hop limit, MTU, lifetimes, default (RFC 4861 §6.2.7)\n%q", len(notes), maxRouters, notes[:min(5, len(notes))])
		}
		time.Sleep(27 * time.Hour) // the longest lifetime, and two hours
		l.after(time.Hour)
		if s := l.status(); len(s.Notes) != 0 || len(s.Routers) != 0 {
			t.Errorf("when all that they said has ended: %q, %d routers", s.Notes, len(s.Routers))
		}
	})
}

// Whatever is heard is noted at once, but logged only so often.
func TestDisagreementsAreNotedWhenHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		a := web() // as ra=auto
		a.RouterLifetime = 0
		l.Advertise(a)
		l.after(time.Minute)
		l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 1800, Managed: true, Other: true})
		notes := strings.Join(l.status().Notes, "; ")
		for _, want := range []string{"as a default router, which this host is not", "managed (M) on, this host off", "other (O) on, this host off"} {
			if !strings.Contains(notes, want) {
				t.Errorf("notes %q do not say %q", notes, want)
			}
		}
		if all := l.after(10 * time.Minute); len(all) == 0 || all[0].Managed || all[0].Other {
			t.Errorf("%+v: a container's flags are not repeated", all)
		}
		before := l.logged.Load()
		for i := range 1000 {
			l.advertise(l.link, fmt.Sprintf("fe80::9:%x", i%5), spec.Advertisement{RouterLifetime: 1800, HopLimit: uint8(i%60 + 1)})
		}
		if n := l.logged.Load() - before; n == 0 || n > 20 {
			t.Errorf("%d lines are logged of what a container does, want a few", n)
		}
	})
}

func TestScheduleAnswersByTheNextMulticast(t *testing.T) {
	now := time.Now()
	s := schedule{least: time.Minute, most: time.Minute}
	s.begin(now)
	s.solicited(now, addr("fe80::5"))
	if to := s.due(now.Add(maxDelay)); len(to) != 1 || to[0] != allNodes || len(s.unicast) != 0 {
		t.Errorf("sent to %v, want all nodes alone: the solicitor is one", to)
	}
	s.last = now.Add(maxDelay)
	s.solicited(now.Add(time.Second), netip.IPv6Unspecified())
	if next := s.next(); next.Before(now.Add(maxDelay + minDelayBetween)) {
		t.Errorf("next multicast %v after the last, want 3 s", next.Sub(now.Add(maxDelay)))
	}
}

// A parent link on which nothing is said is listened on.
func TestListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stop()
		l.Listen([]string{"br0"})
		upstream := web()
		upstream.Managed, upstream.DNS = true, lasting([]netip.Addr{addr("2001:db8::53")}, time.Hour)
		l.advertise(l.link, "fe80::9", upstream)
		l.solicit("fe80::5")
		if all := l.after(24 * time.Hour); len(all) != 0 {
			t.Errorf("%+v is sent on a link that is listened on alone", all)
		}
		l.advertise(l.link, "fe80::9", upstream)
		s := l.status()
		if len(s.Routers) != 1 || s.Routers[0].Source != addr("fe80::9") || s.Routers[0].Prefixes[0].Valid != 5400 || s.Routers[0].MTU != 1500 || len(s.Routers[0].DNS) != 1 {
			t.Errorf("heard %+v, want what the router said", s.Routers)
		}
		l.Withdraw(t.Context(), "br0") // nothing was said
		l.Listen([]string{"br0"})

		// Something is said there for a time, and does not undo M, which hosts
		// take from whomever they heard last (RFC 4861 §6.3.4).
		l.Advertise(announced())
		time.Sleep(time.Second)
		l.advertise(l.link, "fe80::9", upstream)
		if all := l.after(time.Minute); len(all) != 3 || len(all[0].Routes) != 2 || !all[0].Managed || all[0].Other {
			t.Errorf("announced %+v", all)
		}
		if s := l.status(); !s.Managed {
			t.Errorf("status %+v, want the flag that is repeated", s)
		}
		l.Listen([]string{"br0"})
		l.Withdraw(t.Context(), "br0")
		if all := l.advertised(); len(all) != 1 || all[0].Routes[0].Lifetime != 0 {
			t.Errorf("at the end %+v is sent", all)
		}
		l.advertise(l.link, "fe80::9", upstream)
		if s := l.status(); len(s.Routers) != 1 || len(s.Routes) != 0 {
			t.Errorf("afterwards it is listened on again, and the status is %+v", s)
		}
		l.Listen(nil)
		l.after(time.Minute)
		if len(l.Status()) != 0 {
			t.Errorf("status %+v of links that nobody asks about", l.Status())
		}
	})
}

// RFC 4861 §6.3.4: an advertisement with router lifetime 0 takes the default route
// by its sender away, also one that another program of this host advertises.
func TestAnotherDaemonOfThisHost(t *testing.T) {
	for _, tc := range []struct {
		name  string
		first bool // it is heard before anything is announced
	}{{"it was there before", true}, {"it comes later", false}} {
		t.Run(tc.name, func(t *testing.T) {
			timing(t, func(t *testing.T, l *lab) { // fe80::1
				theirs := spec.Advertisement{RouterLifetime: 1800, Managed: true}
				l.Listen([]string{"br0"})
				l.Advertise(announced())
				if tc.first {
					time.Sleep(time.Second)
				} else {
					l.after(time.Minute)
				}
				l.advertise(l.link, "fe80::1", theirs)
				l.solicit("fe80::5")
				if all := l.after(25 * time.Minute); len(all) != 0 {
					t.Fatalf("%+v, want nothing beside another default router of this very address", all)
				}
				if s := l.status(); len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "another program of this host") || len(s.Routers) != 0 {
					t.Errorf("notes %q, routers %+v, want why nothing is announced", s.Notes, s.Routers)
				}
				l.advertise(l.link, "fe80::1", theirs)
				l.Withdraw(t.Context(), "br0")
				if all := l.after(time.Minute); len(all) != 0 {
					t.Errorf("the farewell %+v takes the default route away", all)
				}
				// It has gone without a word.
				l.Advertise(announced())
				if all := l.after(28 * time.Minute); len(all) != 0 {
					t.Errorf("%+v, and its lifetime has not ended", all)
				}
				if all := l.after(2 * time.Minute); len(all) == 0 || len(all[0].Routes) != 2 {
					t.Errorf("with the other gone %+v, want the routes announced", all)
				}
				if notes := l.status().Notes; len(notes) != 0 {
					t.Errorf("notes %q", notes)
				}
				// It comes again, and ends as it should.
				l.advertise(l.link, "fe80::1", theirs)
				l.after(time.Minute)
				l.advertise(l.link, "fe80::1", final(theirs))
				if all := l.after(20 * time.Second); len(all) == 0 || len(all[0].Routes) != 2 {
					t.Errorf("after its farewell %+v, want the routes announced", all)
				}
			})
		})
	}
}

// What an earlier daemon told is taken back, also before this one has said anything:
// with the network that goes, or when another router announces it.
func TestInheritedRoutesAreTakenBack(t *testing.T) {
	for _, tc := range []struct {
		name string
		then func(t *testing.T, l *lab)
	}{
		{"the network goes", func(t *testing.T, l *lab) { l.Withdraw(t.Context(), "br0") }},
		{"another router announces it", func(_ *testing.T, l *lab) { l.advertise(l.link, "fe80::9", announced()) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				defer l.stop()
				l.Inherit(announced())
				l.Advertise(announced())
				l.Listen([]string{"br0"})
				time.Sleep(time.Second)
				l.advertised()
				tc.then(t, l)
				all := l.after(time.Minute)
				if len(all) != 3 {
					t.Fatalf("%+v, want it said three times", all)
				}
				for _, s := range all {
					if len(s.Routes) != 2 || s.Routes[0].Lifetime != 0 || s.Routes[1].Lifetime != 0 {
						t.Errorf("after %v %+v, want both routes taken back", s.at, s.Routes)
					}
				}
				all = l.after(time.Hour)
				if len(all) > 0 && len(all[len(all)-1].Routes) > 0 && all[len(all)-1].Routes[0].Lifetime == 0 {
					t.Errorf("after their lifetime %+v", all[len(all)-1].Routes)
				}
			})
		})
	}
}

// What cannot be taken back, since the link is away, is when it is there again, if
// somebody may still use it by then.
func TestFarewellOnALinkThatIsAway(t *testing.T) {
	for _, tc := range []struct {
		away time.Duration
		want int
	}{{time.Minute, maxFinal}, {31 * time.Minute, 0}} {
		t.Run(tc.away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				defer l.stop()
				l.Listen([]string{"br0"})
				l.Advertise(announced())
				l.after(time.Minute)
				l.change(func(f *fakeLink) { f.gone = true; _ = f.conn.Close() })
				began := time.Now()
				l.Withdraw(t.Context(), "br0")
				if took := time.Since(began); took != 0 {
					t.Errorf("it is waited for %v, and there is nobody to hear it", took)
				}
				time.Sleep(tc.away)
				l.change(func(f *fakeLink) { f.gone = false })
				all := append(l.advertised(), l.after(time.Minute)...)
				if len(all) != tc.want {
					t.Fatalf("%+v, want %d final advertisements", all, tc.want)
				}
				for _, s := range all {
					if len(s.Routes) != 2 || s.Routes[0].Lifetime != 0 {
						t.Errorf("final %+v", s)
					}
				}
				if s := l.status(); s.Error != "" || len(s.Routes) != 0 || !s.Sent.IsZero() {
					t.Errorf("afterwards the status is %+v", s)
				}
			})
		})
	}
}

// A parent that is listened on alone says nothing, and nothing is wrong with that.
func TestNothingIsShownOfWhatIsSaidNoMore(t *testing.T) {
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("away=%t", away), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				defer l.stop()
				l.Listen([]string{"br0"})
				l.Advertise(announced())
				time.Sleep(time.Second)
				l.advertise(l.link, "fe80::9", spec.Advertisement{RouterLifetime: 9000, Routes: announced().Routes[1:]})
				l.after(time.Minute)
				if s := l.status(); len(s.Notes) != 1 || len(s.Routes) != 1 {
					t.Fatalf("status %+v", s)
				}
				if away {
					l.change(func(f *fakeLink) { f.gone = true; _ = f.conn.Close() })
					l.Listen(nil)
					l.Withdraw(t.Context(), "br0")
					l.Listen([]string{"br0"})
					l.change(func(f *fakeLink) { f.gone = false })
				} else {
					l.Withdraw(t.Context(), "br0")
				}
				if s := l.status(); len(s.Notes) != 0 || len(s.Routes) != 0 || !s.Sent.IsZero() {
					t.Errorf("at once: notes %q, routes %+v, sent %v", s.Notes, s.Routes, s.Sent)
				}
				l.after(time.Minute)
				if s := l.status(); len(s.Notes) != 0 || len(s.Routes) != 0 || !s.Sent.IsZero() {
					t.Errorf("later: notes %q, routes %+v, sent %v", s.Notes, s.Routes, s.Sent)
				}
			})
		})
	}
}
