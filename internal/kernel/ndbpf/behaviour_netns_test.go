//go:build netns

package ndbpf

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"github.com/v6net/v6net/internal/testnet"
	"github.com/v6net/v6net/ndproxy"
)

// onEach runs a test for every data path.
func onEach(t *testing.T, knobs ndproxy.Knobs, test func(t *testing.T, l *lab, fast bool)) {
	for path := range paths {
		t.Run(path, func(t *testing.T) { test(t, newLab(t, path, knobs), path != "packet") })
	}
}

// What is ordinary the program settles itself, and keeps from the packet socket.
func TestFastPathSettles(t *testing.T) {
	for _, path := range []string{"ebpf by tcx", "ebpf by clsact"} {
		t.Run(path, func(t *testing.T) {
			l := newLab(t, path, ndproxy.Knobs{})
			l.add(t, leased)
			// Until the link has an address of its own, package ndproxy answers.
			eventually(t, "answers have a source", func() bool { return l.conn.Load().LinkLocal().IsValid() })
			us := [6]byte(parseMAC(t, l.self.MAC(t, "eth0")))
			bare := multicastTo(target)
			bare.options = nil
			probe := bare
			probe.to, probe.destination = us, target
			l.drain(t)
			for _, q := range []question{multicastTo(target), bare, probe} {
				l.send(t, q.frame(t))
				l.advertisement(t, target)
			}
			before := l.settled()["unknown_target"]
			for range 10 {
				l.send(t, multicastTo(netip.MustParseAddr(unknown)).frame(t))
			}
			eventually(t, "counted by the program", func() bool { return l.settled()["unknown_target"] >= before+10 })
			if got := l.settled(); got["solicited"] != 2 || got["probed"] != 1 {
				t.Errorf("the program has settled %v, want 2 solicited, 1 probed", got)
			}
			if s := l.status(); s.Path != "ebpf" || s.Counters["unknown_target"] != l.settled()["unknown_target"] {
				t.Errorf("status %+v: unknown targets came to the packet socket, too", s)
			}
			l.proxy.Remove("eth0", target)
			if c := l.conn.Load(); c.isAttached() {
				eventually(t, "detached", func() bool { return !c.isAttached() })
			}
		})
	}
}

// RFC 7527: the network sends our own probe back, from another MAC (as some
// access points do). It is no conflict, and not to be defended against.
func TestOwnProbeLoopedBack(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, _ bool) {
		l.proxy.Add("eth0", target)
		var probe []byte
		if err := l.wire.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 2048); probe == nil; {
			n, err := l.wire.Read(b)
			if err != nil {
				t.Fatalf("no probe for %s: %v", leased, err)
			}
			if n >= 86 && b[54] == 135 && netip.AddrFrom16([16]byte(b[22:])).IsUnspecified() && netip.AddrFrom16([16]byte(b[62:])) == target {
				probe = bytes.Clone(b[:n])
			}
		}
		if m, err := ndp.ParseMessage(probe[54:]); err != nil || fmt.Sprintf("%T", m.(*ndp.NeighborSolicitation).Options[0]) != "*ndp.Nonce" {
			t.Errorf("probe %x: %v, want one with a nonce (RFC 7527 §4.1)", probe, err)
		}
		l.healthy(t)
		copy(probe[6:], asker[:])
		l.send(t, probe)
		eventually(t, "counted as looped", func() bool { return l.counters()["looped"] == 1 })
		if c := l.counters(); c["defended"] != 0 || len(l.status().Conflicts) != 0 {
			t.Errorf("counters %v, conflicts %v", c, l.status().Conflicts)
		}
		copy(probe[80:], []byte{1, 2, 3, 4, 5, 6}) // another node's nonce
		resum(probe)
		l.send(t, probe)
		eventually(t, "counted as defended", func() bool { return l.counters()["defended"] == 1 })
	})
}

// RFC 4861 §7.2.8 with the knobs for uplinks that want it otherwise.
func TestKnobs(t *testing.T) {
	t.Run("O=1", func(t *testing.T) {
		onEach(t, ndproxy.Knobs{Override: true}, func(t *testing.T, l *lab, _ bool) {
			l.add(t, leased)
			us := [6]byte(parseMAC(t, l.self.MAC(t, "eth0")))
			l.drain(t)
			l.send(t, multicastTo(target).frame(t))
			checkAnswer(t, l.advertisement(t, target), multicastTo(target), theAsker, us, linkLocalOf(t, l), true)
		})
	})
	t.Run("target as source", func(t *testing.T) {
		onEach(t, ndproxy.Knobs{TargetAsSource: true}, func(t *testing.T, l *lab, fast bool) {
			l.add(t, leased)
			us := [6]byte(parseMAC(t, l.self.MAC(t, "eth0")))
			l.drain(t)
			l.send(t, multicastTo(target).frame(t))
			checkAnswer(t, l.advertisement(t, target), multicastTo(target), theAsker, us, target, false)
			if fast && l.settled()["solicited"] != 1 {
				t.Error("the program has not answered")
			}
		})
	})
	t.Run("delay", func(t *testing.T) {
		onEach(t, ndproxy.Knobs{Delay: 200 * time.Millisecond}, func(t *testing.T, l *lab, _ bool) {
			l.add(t, leased)
			us := [6]byte(parseMAC(t, l.self.MAC(t, "eth0")))
			l.drain(t)
			var longest time.Duration
			for range 20 {
				began := time.Now()
				l.send(t, multicastTo(target).frame(t))
				checkAnswer(t, l.advertisement(t, target), multicastTo(target), theAsker, us, linkLocalOf(t, l), false)
				longest = max(longest, time.Since(began))
			}
			if longest < 50*time.Millisecond { // 1 in 10^12 by chance
				t.Errorf("20 answers within %v each: none was delayed", longest)
			}
		})
	})
}

// Limits are for one solicitor and for all, and what is live to others is
// answered while one floods.
func TestRateLimits(t *testing.T) {
	onEach(t, ndproxy.Knobs{Rate: 1000, SourceRate: 100}, func(t *testing.T, l *lab, fast bool) {
		l.add(t, leased)
		l.drain(t)
		f := multicastTo(target).frame(t)
		for range 500 {
			l.send(t, f)
		}
		eventually(t, "500 are judged", func() bool {
			c := l.counters()
			return c["solicited"]+c["rate_limited"] == 500
		})
		// A burst of a tenth of a second, and what a busy machine lets time pass for.
		if c := l.counters(); c["solicited"] < 10 || c["rate_limited"] < 100 {
			t.Errorf("of 500 at once, %d were answered and %d limited, want 10 or somewhat more answered", c["solicited"], c["rate_limited"])
		}
		l.drain(t)
		other := multicastTo(target)
		other.from, other.source = [6]byte{2, 0, 0, 0, 0, 0x42}, netip.MustParseAddr("2001:db8::42")
		l.send(t, other.frame(t))
		if got := l.advertisement(t, target); [6]byte(got[0:6]) != other.from {
			t.Errorf("another solicitor is not answered: %x", got)
		}
		if fast && l.settled()["rate_limited"] == 0 {
			t.Error("the program has limited nothing")
		}
	})
}

// A rate under one in a burst's time is a rate, and not none.
func TestLowRate(t *testing.T) {
	onEach(t, ndproxy.Knobs{Rate: 5, SourceRate: 3}, func(t *testing.T, l *lab, fast bool) {
		l.add(t, leased)
		if fast {
			eventually(t, "answers have a source", func() bool { return l.conn.Load().LinkLocal().IsValid() })
		}
		l.drain(t)
		f := multicastTo(target).frame(t)
		l.send(t, f)
		l.advertisement(t, target)
		l.send(t, f)
		eventually(t, "the second is limited", func() bool { return l.counters()["rate_limited"] == 1 })
		if fast && l.settled()["solicited"] != 1 {
			t.Error("the program has not answered")
		}
	})
}

// Another host that answers for a lease is counted and shown, until the lease goes.
func TestConflict(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, _ bool) {
		l.up.AddAddress(t, second+"/64", "lan0") // before it is leased
		l.add(t, leased)
		if got := l.status().Conflicts; len(got) != 0 {
			t.Errorf("conflicts %v without any", got)
		}
		l.proxy.Add("eth0", netip.MustParseAddr(second)) // the probe finds it
		eventually(t, "the conflict is shown", func() bool { return len(l.status().Conflicts) == 1 })
		if got := l.status().Conflicts[0]; got.Address != netip.MustParseAddr(second) || got.HardwareAddr != l.up.MAC(t, "lan0") || l.counters()["conflict"] == 0 {
			t.Errorf("conflict %+v, counters %v", got, l.counters())
		}
		l.proxy.Remove("eth0", netip.MustParseAddr(second))
		if got := l.status().Conflicts; len(got) != 0 {
			t.Errorf("conflicts %v without the lease", got)
		}
	})
}

// So is another host that asks under a lease, however long it has been ours: it is
// not answered, and whose question the network has sent back is not it.
func TestConflictBySource(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, _ bool) {
		l.add(t, leased, second)
		us := [6]byte(parseMAC(t, l.self.MAC(t, "eth0")))
		l.drain(t)
		looped := multicastTo(netip.MustParseAddr("2001:db8::2"))
		looped.source, looped.options = target, []ndp.Option{sourceLinkLayer(us)}
		l.send(t, looped.frame(t))
		eventually(t, "counted as looped", func() bool { return l.counters()["looped"] == 1 })
		if got := l.status().Conflicts; len(got) != 0 {
			t.Errorf("conflicts %v without any", got)
		}
		for i, asked := range []string{second, "2001:db8::2"} { // one of ours, and not
			q := multicastTo(netip.MustParseAddr(asked))
			q.source = target
			l.send(t, q.frame(t))
			eventually(t, "counted as a conflict", func() bool { return l.counters()["conflict"] == uint64(i+1) })
		}
		if got := l.status().Conflicts; len(got) != 1 || got[0].Address != target || [6]byte(parseMAC(t, got[0].HardwareAddr)) != asker {
			t.Errorf("conflicts %+v, want %v by %x", got, target, asker)
		}
		if c := l.counters(); c["solicited"] != 0 {
			t.Errorf("counters %v: the rival was answered", c)
		}
	})
}

// Independent judges: Linux' neighbor table, through resolution and probes, and
// ndisc6.
func TestJudges(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, fast bool) {
		l.up.Sysctl(t, "net/ipv6/neigh/lan0/base_reachable_time_ms", "400")
		l.up.Sysctl(t, "net/ipv6/neigh/lan0/delay_first_probe_time", "0")
		l.add(t, leased)
		us := l.self.MAC(t, "eth0")
		if got := l.up.Find(t, leased, "lan0", us); got != us {
			t.Errorf("Linux learns %q of a lease, want %s", got, us)
		}
		if got := l.up.Resolve(t, unknown, "lan0"); got != "" {
			t.Errorf("Linux learns %q of an unknown target", got)
		}
		entry := func() string {
			_ = l.up.Command(t.Context(), "ping", "-c", "1", "-W", "0.05", leased).Run()
			return l.up.Run(t, "ip", "neigh", "show", leased, "dev", "lan0")
		}
		eventually(t, "unicast probes are answered", func() bool { entry(); return l.counters()["probed"] >= 2 })
		eventually(t, "the neighbor is REACHABLE", func() bool { return strings.HasSuffix(entry(), "REACHABLE") })
		if !strings.Contains(entry(), us+" router") {
			t.Errorf("neighbor %q, want a router", entry())
		}
		if fast && l.settled()["probed"] == 0 {
			t.Error("the program has answered no probe")
		}
	})
	t.Run("ndisc6", func(t *testing.T) {
		// ndisc6 1.0.5 takes no answer for a global target from a link-local source.
		onEach(t, ndproxy.Knobs{TargetAsSource: true}, func(t *testing.T, l *lab, _ bool) {
			l.add(t, leased)
			eventually(t, "ndisc6 is told", func() bool { return l.up.NDisc6(t, leased, "lan0") == l.self.MAC(t, "eth0") })
			if got := l.up.NDisc6(t, unknown, "lan0"); got != "" {
				t.Errorf("ndisc6 is told %q of an unknown target", got)
			}
		})
	})
}

// RFC 4862 §5.4.4: another Linux host that takes a lease for itself is told.
func TestLinuxDADIsDefended(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, _ bool) {
		l.add(t, leased)
		l.up.Sysctl(t, "net/ipv6/conf/lan0/accept_dad", "1")
		l.up.Sysctl(t, "net/ipv6/conf/lan0/dad_transmits", "1")
		l.up.Sysctl(t, "net/ipv6/neigh/lan0/retrans_time_ms", "300")
		l.up.Run(t, "ip", "addr", "add", leased+"/64", "dev", "lan0")
		eventually(t, "DAD fails", func() bool {
			return strings.Contains(l.up.Run(t, "ip", "-6", "addr", "show", "dev", "lan0", "dadfailed"), leased)
		})
	})
}

// RFC 4862 §5.4.3, RFC 4861 §7.3: what is attached to the parent takes frames away
// before sockets hear them, as an ipvlan in mode l3 does with another's duplicate
// address detection and with probes. A bridge, which takes them all, stands in for
// it where the kernel has none.
func TestHeardBeforeWhatIsAttached(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, fast bool) {
		l.self.Run(t, "ip", "link", "add", "taker0", "type", "bridge")
		defer l.self.Run(t, "ip", "link", "del", "taker0")
		l.self.Run(t, "ip", "link", "set", "taker0", "up")
		l.self.Run(t, "ip", "link", "set", "eth0", "master", "taker0")
		l.add(t, leased)
		// Until the link has an address of its own, package ndproxy answers.
		eventually(t, "answers have a source", func() bool {
			c := l.conn.Load()
			return c == nil || c.LinkLocal().IsValid()
		})
		us := [6]byte(parseMAC(t, l.self.MAC(t, "eth0")))
		l.drain(t)
		for name, c := range map[string]struct {
			q  question
			to int
		}{
			"DAD":              {dad(nil)(us), everybody},
			"DAD with a nonce": {dad(func(q *question, _ [6]byte) { q.options = []ndp.Option{ndp.NewNonce()} })(us), everybody},
			"probe":            {alter(func(q *question, us [6]byte) { q.to, q.destination, q.options = us, target, nil })(us), theAsker},
		} {
			l.send(t, c.q.frame(t))
			got := l.advertisement(t, target)
			t.Logf("%s: %x", name, got)
			if solicited := got[58]&0x40 != 0; solicited != (c.to == theAsker) {
				t.Errorf("%s: S=%v", name, solicited)
			}
		}
		if c := l.counters(); c["defended"] != 2 || c["probed"] != 1 {
			t.Errorf("counters %v, want 2 defended, 1 probed", c)
		}
	})
}

// RFC 7527 on the fast path: what the program has computed is what Go has sent.
func TestProgramKnowsOwnNonce(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, fast bool) {
		if !fast {
			return
		}
		l.add(t, leased)
		eventually(t, "answers have a source", func() bool { return l.conn.Load().LinkLocal().IsValid() })
		us := [6]byte(parseMAC(t, l.self.MAC(t, "eth0")))
		l.drain(t)
		l.send(t, dad(func(q *question, _ [6]byte) { q.options = []ndp.Option{ndp.NewNonce()} })(us).frame(t))
		l.advertisement(t, target)
		eventually(t, "the program defends", func() bool { return l.settled()["defended"] == 1 })
	})
}

// Proxy entries of the kernel, and the host's own addresses, answer as before.
func TestKernelsOwnAreNotDisturbed(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, _ bool) {
		l.self.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
		l.self.Sysctl(t, "net/ipv6/conf/all/proxy_ndp", "1")
		l.self.Sysctl(t, "net/ipv6/neigh/eth0/proxy_delay", "0")
		t.Cleanup(func() {
			l.self.Sysctl(t, "net/ipv6/conf/all/forwarding", "0")
			l.self.Sysctl(t, "net/ipv6/conf/all/proxy_ndp", "0")
		})
		l.self.Run(t, "ip", "-6", "neigh", "add", "proxy", unknown, "dev", "eth0")
		l.self.AddAddress(t, "2001:db8::1/64", "eth0")
		l.add(t, leased)
		us := l.self.MAC(t, "eth0")
		for _, addr := range []string{leased, unknown, "2001:db8::1"} {
			if got := l.up.Find(t, addr, "lan0", us); got != us {
				t.Errorf("%s is at %q, want %s", addr, got, us)
			}
		}
		l.proxy.Remove("eth0", target)
		if got := l.self.Run(t, "ip", "-6", "neigh", "show", "proxy"); !strings.Contains(got, unknown) {
			t.Errorf("proxy entries %q", got)
		}
	})
}

// The table grows, and every lease is answered for, none other.
func TestManyLeases(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, _ bool) {
		const n = 10_000
		for i := range uint64(n) {
			l.proxy.Add("eth0", numbered(i))
		}
		l.healthy(t)
		for i := range uint64(n) {
			l.proxy.Add("eth0", numbered(n+i)) // while attached
		}
		for i := range uint64(n) {
			l.proxy.Remove("eth0", numbered(i))
		}
		l.drain(t)
		for i := uint64(0); i < 2*n; i += 499 {
			l.drain(t) // of what is told of the leases
			before := l.counters()["unknown_target"]
			if i >= n {
				// Asked for again where the answer has found no room among them.
				eventually(t, "an answer", func() bool { l.send(t, multicastTo(numbered(i)).frame(t)); return l.heard(t, numbered(i)) })
			} else {
				l.send(t, multicastTo(numbered(i)).frame(t))
				eventually(t, "unknown", func() bool { return l.counters()["unknown_target"] > before })
			}
		}
	})
}

// numbered is an address of many.
func numbered(i uint64) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
}

// All of a prefix is answered for, and nothing beside it.
func TestPrefix(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, fast bool) {
		p, q := netip.MustParsePrefix("2001:db8::a:0/112"), netip.MustParsePrefix("2001:db8::b:0/112")
		l.proxy.AddPrefix("eth0", p)
		l.healthy(t)
		us := l.self.MAC(t, "eth0")
		check := func(want map[string]bool) {
			t.Helper()
			for addr, answered := range want {
				find, is := l.up.Resolve, ""
				if answered {
					find, is = func(t testing.TB, addr, link string) string { return l.up.Find(t, addr, link, us) }, us
				}
				if got := find(t, addr, "lan0"); got != is {
					t.Errorf("%s is at %q, want %q", addr, got, is)
				}
			}
		}
		check(map[string]bool{"2001:db8::a:1": true, "2001:db8::a:ffff": true, "2001:db8::b:1": false})
		l.proxy.AddPrefix("eth0", q)
		check(map[string]bool{"2001:db8::a:1": true, "2001:db8::b:1": true, "2001:db8::c:1": false})
		l.proxy.RemovePrefix("eth0", p)
		check(map[string]bool{"2001:db8::a:1": false, "2001:db8::b:1": true})
		if got := l.status().Prefixes; !slices.Equal(got, []netip.Prefix{q}) {
			t.Errorf("status shows %v", got)
		}
		if fast && l.settled()["solicited"] == 0 {
			t.Error("the program has answered nothing")
		}
		l.proxy.RemovePrefix("eth0", q)
		if s := l.proxy.Status(); len(s) != 0 {
			t.Errorf("status %v without anything", s)
		}
	})
}

// Down, up, gone, back, with another MAC, renamed.
func TestParentChanges(t *testing.T) {
	onEach(t, ndproxy.Knobs{}, func(t *testing.T, l *lab, _ bool) {
		l.add(t, leased)
		us := func() string { return l.self.MAC(t, "eth0") }
		l.self.Run(t, "ip", "link", "set", "eth0", "down")
		eventually(t, "degraded", func() bool { return strings.Contains(l.status().Error, "network is down") })
		l.self.Run(t, "ip", "link", "set", "eth0", "up")
		l.proxy.LinkChanged("eth0")
		l.healthy(t)
		eventually(t, "answers after down and up", func() bool { return l.up.Resolve(t, leased, "lan0") == us() })
		l.self.Run(t, "ip", "link", "set", "eth0", "address", "02:00:00:00:00:77")
		l.proxy.LinkChanged("eth0")
		eventually(t, "answers with the new MAC", func() bool { return l.up.Resolve(t, leased, "lan0") == "02:00:00:00:00:77" })
		l.healthy(t)
		l.self.Run(t, "ip", "link", "set", "eth0", "down")
		eventually(t, "degraded", func() bool { return strings.Contains(l.status().Error, "network is down") })
		l.self.Run(t, "ip", "link", "set", "eth0", "up")
		l.proxy.LinkChanged("eth0")
		l.healthy(t)
		l.self.Run(t, "ip", "link", "set", "eth0", "name", "wan0") // while it is up, as Linux 6.x allows
		defer l.self.Run(t, "ip", "link", "del", "wan0")
		l.proxy.LinkChanged("eth0")
		l.proxy.LinkChanged("wan0")
		eventually(t, "answers after a rename", func() bool { return l.up.Resolve(t, leased, "lan0") == l.self.MAC(t, "wan0") })
	})
}

// Parents of other kinds: a bridge whose port the cable is in, and a macvlan.
// TestVLANAndBond is for those that not every kernel has.
func TestOtherParents(t *testing.T) {
	for kind, add := range map[string][]string{
		"bridge":  {"ip link add wan0 type bridge mcast_snooping 1", "ip link set eth0 master wan0"},
		"macvlan": {"ip link add wan0 link eth0 type macvlan mode bridge"},
	} {
		for path := range paths {
			t.Run(kind+"/"+path, func(t *testing.T) {
				l := &lab{self: testnet.Self(t), up: testnet.New(t, "up")}
				testnet.Connect(t, l.self, "eth0", l.up, "lan0")
				l.proxiesOnWAN(t, path, add)
			})
		}
	}
}

// proxiesOnWAN makes wan0 of the cable, and proxies on it.
func (l *lab) proxiesOnWAN(t *testing.T, path string, add []string) {
	l.link = "wan0"
	l.up.AddAddress(t, "2001:db8::2/64", "lan0")
	for _, command := range add {
		l.self.Run(t, strings.Fields(command)...)
	}
	t.Cleanup(func() { _ = l.self.Command(context.Background(), "ip", "link", "del", "wan0").Run() })
	l.self.Sysctl(t, "net/ipv6/conf/wan0/accept_dad", "0")
	l.self.Run(t, "ip", "link", "set", "wan0", "up")
	l.run(t, path, ndproxy.Knobs{})
	l.add(t, leased)
	us := l.self.MAC(t, "wan0")
	eventually(t, "upstream learns the parent's MAC", func() bool { return l.up.Resolve(t, leased, "lan0") == us })
	if got := l.up.Resolve(t, unknown, "lan0"); got != "" {
		t.Errorf("unknown target is at %q", got)
	}
	if path != "packet" && l.settled()["solicited"] == 0 {
		eventually(t, "the program answers", func() bool { l.up.Resolve(t, leased, "lan0"); return l.settled()["solicited"] > 0 })
	}
}
