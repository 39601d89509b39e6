package ra

import (
	"fmt"
	"net/netip"
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
			least, most := 200*time.Second, 600*time.Second
			if i < 3 {
				least, most = 16*time.Second, 16*time.Second
			}
			if gap < least || gap > most {
				t.Errorf("advertisement %d comes after %v, want %v to %v (RFC 4861 §6.2.4)", i, gap, least, most)
			}
		}
		// RFC 7772 §5.1: at most 7 multicast advertisements an hour are a fair rate.
		if perHour := float64(len(all)-3) / 4; perHour > 18 {
			t.Errorf("%.1f multicast advertisements an hour, want 18 at most", perHour)
		}
	})
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
		all := l.advertised()
		if len(all) != 1 || all[0].to != allNodes || all[0].RouterLifetime != 0 || all[0].Prefixes[0].Valid != 0 {
			t.Fatalf("at the end %+v is sent, want lifetimes of 0 (RFC 4861 §6.2.5)", all)
		}
		if all := l.after(time.Hour); len(all) != 0 || len(l.Status()) != 0 {
			t.Errorf("after the end: %+v, status %v", all, l.Status())
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
		s := NewSupervisor(l.dial, l.log)
		s.Advertise(web())
		s.Advertise(web())
		s.Withdraw(t.Context(), "br0")
		if got := s.Status(); len(got) != 0 {
			t.Errorf("status %+v", got)
		}
	})
}

// announced is what a host tells its parent link of a pool.
func announced() spec.Advertisement {
	return spec.Advertisement{Link: "br0", Routes: []spec.AdvertisedRoute{
		{Prefix: prefix("2001:db8:2::/64"), Lifetime: 1800}, {Prefix: prefix("2001:db8:3::/64"), Lifetime: 1800},
	}}
}

func otherRouter(t *testing.T, a spec.Advertisement) []byte {
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
		l.hear(otherRouter(t, spec.Advertisement{RouterLifetime: 1800, Routes: []spec.AdvertisedRoute{{Prefix: prefix("2001:db8:3::/64"), Lifetime: 1800}}}), addr("fe80::9"), 255)
		all := l.after(time.Minute)
		if len(all) != 3 || all[0].at < listenFirst || all[0].RouterLifetime != 0 {
			t.Fatalf("%+v, want three advertisements after %v", all, listenFirst)
		}
		if r := all[0].Routes; len(r) != 1 || r[0].Prefix != prefix("2001:db8:2::/64") {
			t.Errorf("routes %+v, want the one that is not another router's", r)
		}
		if s := l.status(); len(s.Notes) != 1 {
			t.Errorf("notes %q, want why a route is missing", s.Notes)
		}
		// One that is ours stays ours.
		l.hear(otherRouter(t, announced()), addr("fe80::9"), 255)
		l.solicit("fe80::5")
		if all := l.after(time.Second); len(all) != 1 || len(all[0].Routes) != 1 {
			t.Errorf("%+v, want the route that was ours before", all)
		}
		// The other router goes.
		l.hear(otherRouter(t, spec.Advertisement{}), addr("fe80::9"), 255)
		l.solicit("fe80::5")
		if all := l.after(time.Second); len(all) != 1 || len(all[0].Routes) != 2 {
			t.Errorf("%+v, want both routes now that the other is gone", all)
		}
		// The farewell takes back our own.
		l.Withdraw(t.Context(), "br0")
		if all := l.advertised(); len(all) != 1 || len(all[0].Routes) != 2 || all[0].Routes[0].Lifetime != 0 {
			t.Errorf("at the end: %+v", all)
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
			l.hear(otherRouter(t, other), addr(fmt.Sprintf("fe80::9:%x", i)), 255)
		}
		l.hear(otherRouter(t, other), web().Source, 255) // our own, looped back
		l.after(time.Minute)
		if notes := l.status().Notes; len(notes) != 4*maxRouters {
			t.Errorf("%d notes, want 4 for each of %d routers: hop limit, MTU, lifetimes, default (RFC 4861 §6.2.7)\n%q", len(notes), maxRouters, notes[:min(5, len(notes))])
		}
		l.after(time.Hour)
		if notes := l.status().Notes; len(notes) != 0 {
			t.Errorf("an hour after they were last heard: %q", notes)
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
		upstream.Managed, upstream.DNS = true, []netip.Addr{addr("2001:db8::53")}
		l.hear(otherRouter(t, upstream), addr("fe80::9"), 255)
		l.solicit("fe80::5")
		if all := l.after(24 * time.Hour); len(all) != 0 {
			t.Errorf("%+v is sent on a link that is listened on alone", all)
		}
		l.hear(otherRouter(t, upstream), addr("fe80::9"), 255)
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
		l.hear(otherRouter(t, upstream), addr("fe80::9"), 255)
		if all := l.after(time.Minute); len(all) != 3 || len(all[0].Routes) != 2 || !all[0].Managed || all[0].Other {
			t.Errorf("announced %+v", all)
		}
		l.Listen([]string{"br0"})
		l.Withdraw(t.Context(), "br0")
		if all := l.advertised(); len(all) != 1 || all[0].Routes[0].Lifetime != 0 {
			t.Errorf("at the end %+v is sent", all)
		}
		l.hear(otherRouter(t, upstream), addr("fe80::9"), 255)
		if s := l.status(); len(s.Routers) != 1 || len(s.Routes) != 0 {
			t.Errorf("afterwards it is listened on again, and the status is %+v", s)
		}
		l.Listen(nil)
		synctest.Wait()
		if len(l.Status()) != 0 {
			t.Errorf("status %+v of links that nobody asks about", l.Status())
		}
	})
}
