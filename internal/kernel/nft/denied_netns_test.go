//go:build netns

package nft

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/nflog"
	"github.com/v6net/v6net/internal/testnet"
)

// ear hears what a host's rules tell.
type ear struct {
	mu    sync.Mutex
	heard []firewall.Refusal
}

// listens listens on the host until the end of the test.
func listens(t *testing.T, host *testnet.Host, group uint16) (*ear, *nflog.Listener) {
	t.Helper()
	var l *nflog.Listener
	host.Do(t, func() {
		var err error
		if l, err = nflog.New(group); err == nil {
			err = l.Listen(true)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	e := &ear{}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	testnet.Running(t, "the listener", func(ctx context.Context) error {
		return l.Run(ctx, func(r firewall.Refusal) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.heard = append(e.heard, r)
		})
	})
	return e, l
}

// told is what has been heard, in the order in which it was; of one call once.
func (e *ear) told() (all []firewall.Refusal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.heard {
		r.MAC, r.FromPort, r.Port = "", 0, ""
		if len(all) == 0 || !cmp.Equal(all[len(all)-1], r, cmpopts.EquateComparable(netip.Addr{})) {
			all = append(all, r)
		}
	}
	return all
}

// bound are the NFLOG groups of the host that somebody listens to.
func bound(t *testing.T, host *testnet.Host) (n int) {
	t.Helper()
	host.Do(t, func() {
		b, err := os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_log")
		if err != nil {
			t.Fatal(err)
		}
		n = strings.Count(string(b), "\n")
	})
	return n
}

// Each network's denied calls are told where it wants that, with what they are: of every
// protocol, in both directions, by either backend.
func TestDeniedIsTold(t *testing.T) { eachKind(t, testDeniedIsTold) }

func testDeniedIsTold(t *testing.T, b backend) {
	s := b.site(t)
	bridgeNetfilter(t, s.host, "0")
	f := s.open(t)
	for i, n := range s.config.Networks {
		s.config.Networks[i].Log = n.Bridge == "web" || n.Bridge == "internal"
	}
	apply(t, f, s.config)
	ear, _ := listens(t, s.host, firewall.DefaultLogGroup)
	s.wantReached(t, s.outside, "tcp", "[2001:db8:1::2]:80", true) // let in: of no interest

	for _, tc := range []struct {
		what string
		call func()
		want string
	}{
		{"TCP from outside", func() { send(t, s.outside, "", "[2001:db8:1::2]:9999") }, "in unpublished eth0>web 2001:db8::9>2001:db8:1::2 udp 9999"},
		{"nobody's address", func() { send(t, s.outside, "", "[2001:db8:1::77]:80") }, "in nobody eth0>web 2001:db8::9>2001:db8:1::77 udp 80"},
		{"IPv4", func() { send(t, s.outside, "", "172.18.1.2:81") }, "in unpublished eth0>web 192.0.2.9>172.18.1.2 udp 81"},
		{"another network", func() { send(t, s.c["ula2"], "", "[2001:db8:1::2]:81") }, "in isolated ula>web fd00:2::2>2001:db8:1::2 udp 81"},
		{"to another network", func() { send(t, s.c["web2"], "", "[fd00:2::2]:81") }, "out isolated web>ula 2001:db8:1::2>fd00:2::2 udp 81"},
		{"out of an internal network", func() { send(t, s.c["internal2"], "", "["+outside6+"]:80") }, "out internal internal>eth0 2001:db8:3::2>2001:db8::9 udp 80"},
		{"into an internal network", func() { send(t, s.outside, "", "[2001:db8:3::2]:80") }, "in internal eth0>internal 2001:db8::9>2001:db8:3::2 udp 80"},
	} {
		tc.call()
		testnet.Eventually(t, longest, tc.what+" is told: "+tc.want, func() bool {
			for _, r := range ear.told() {
				if line(r) == tc.want {
					return true
				}
			}
			return false
		})
	}
	// TCP, whose caller tries again, and an echo request, which published networks take.
	if seen, err := call(t.Context(), s.outside, "tcp", "[2001:db8:1::2]:81"); seen != "" || err != nil {
		t.Errorf("TCP: %q, %v", seen, err)
	}
	ping := s.outside.Command(t.Context(), "ping", "-n", "-c", "1", "-W", "1", "2001:db8:1::77")
	if out, err := ping.CombinedOutput(); err == nil {
		t.Errorf("nobody answers:\n%s", out)
	}
	for _, want := range []string{"in unpublished eth0>web 2001:db8::9>2001:db8:1::2 tcp 81", "in nobody eth0>web 2001:db8::9>2001:db8:1::77 icmpv6 128"} {
		testnet.Eventually(t, longest, want, func() bool {
			for _, r := range ear.told() {
				if line(r) == want {
					return true
				}
			}
			return false
		})
	}
	// A forger, where its packets are judged.
	ip(t, s.c["web3"], "addr add 2001:db8:1::66/64 nodad dev eth0")
	testnet.Eventually(t, longest, "a forger is told", func() bool {
		send(t, s.c["web3"], "[2001:db8:1::66]:0", "["+outside6+"]:53")
		ear.mu.Lock()
		defer ear.mu.Unlock()
		for _, r := range ear.heard {
			if r.Reason == firewall.DeniedForged && !r.Inward && (r.Port == "v6nvweb3" || !b.frames && r.In == "web") && r.MAC == "02:00:00:00:01:03" {
				return true
			}
		}
		return false
	})
	// Whoever does not want it is silent.
	before := len(ear.told())
	send(t, s.outside, "", "[fd00:2::2]:9999")
	send(t, s.outside, "", "[2001:db8:5::2]:9999")
	send(t, s.outside, "", "[2001:db8:1::2]:9998") // and this comes after those
	testnet.Eventually(t, longest, "one more", func() bool { return len(ear.told()) > before })
	for _, r := range ear.told() {
		if r.Out == "ula" && r.Inward || r.Out == "none" {
			t.Errorf("told: %s", line(r))
		}
	}
	s.floodIsToldInBrief(t, f, ear)
}

// line is a refusal for the tables of a test.
func line(r firewall.Refusal) string {
	direction, to := "out", fmt.Sprint(r.ToPort)
	if r.Inward {
		direction = "in"
	}
	if r.Type != nil {
		to = fmt.Sprint(*r.Type)
	}
	return fmt.Sprintf("%s %s %s>%s %s>%s %s %s", direction, r.Reason, r.In, r.Out, r.From, r.To, r.Protocol, to)
}

// floodIsToldInBrief: it gets few lines for its network, does not silence another, and
// all of it is counted.
func (s *site) floodIsToldInBrief(t *testing.T, f kernel, ear *ear) {
	t.Helper()
	const flood = 10000
	before, err := f.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	heard := func() (web int, internal bool) {
		ear.mu.Lock()
		defer ear.mu.Unlock()
		for _, r := range ear.heard {
			if r.ToPort == 7777 && r.Out == "web" {
				web++
			}
			internal = internal || r.ToPort == 7777 && r.Out == "internal"
		}
		return web, internal
	}
	begun := time.Now()
	conn, err := s.outside.DialContext(t.Context(), "udp", "[2001:db8:1::2]:7777")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for range flood {
		if _, err := conn.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
	}
	send(t, s.outside, "", "[2001:db8:3::2]:7777")
	testnet.Eventually(t, longest, "the other network's is told", func() bool { _, other := heard(); return other })
	took := time.Since(begun) // all of the flood has been judged
	// What a network may tell at once, in each second, and one for the clocks.
	told, _ := heard()
	if most := 20 + 10*(int(took/time.Second)+1) + 1; told == 0 || told > most {
		t.Errorf("%d of %d packets in %v are told, want up to %d", told, flood, took, most)
	}
	after, err := f.Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := after.Of(s.config.Networks[0]).DeniedIn - before.Of(s.config.Networks[0]).DeniedIn; n != flood {
		t.Errorf("%d are counted, want %d", n, flood)
	}
}

// Groups belong to a network namespace, and to one listener there, until it ends.
func TestLogGroupHasOneListener(t *testing.T) {
	t.Parallel()
	host, other := testnet.New(t, "host"), testnet.New(t, "other")
	_, l := listens(t, host, 7)
	listens(t, other, 7)
	if n := bound(t, host); n != 1 {
		t.Errorf("%d groups are listened to, want 1", n)
	}
	second := func() (err error) {
		host.Do(t, func() {
			var l *nflog.Listener
			if l, err = nflog.New(7); err == nil {
				err = l.Listen(true)
				if err2 := l.Close(); err2 != nil {
					t.Error(err2)
				}
			}
		})
		return err
	}
	if err := second(); err == nil || !strings.Contains(err.Error(), "NFLOG group 7 is another program's") {
		t.Errorf("a second listener: %v", err)
	}
	host.Do(t, func() {
		for _, on := range []bool{true, false, false} { // which it has been, and has been again
			if err := l.Listen(on); err != nil {
				t.Error(err)
			}
		}
	})
	if n := bound(t, host); n != 0 {
		t.Errorf("%d groups are listened to, want none", n)
	}
	if err := second(); err != nil {
		t.Errorf("a second listener after the first: %v", err)
	}
	host.Do(t, func() {
		if err := l.Listen(true); err != nil {
			t.Error(err)
		}
	})
	if n := bound(t, host); n != 1 {
		t.Errorf("%d groups are listened to again, want 1", n)
	}
}

// Whether denied packets can be told is found out without leaving anything behind.
func TestCanLog(t *testing.T) {
	eachBackend(t, func(t *testing.T, b backend) {
		host := b.host(t, "host")
		b.makeTables(t, host)
		before := b.snapshot(t, host)
		f := b.open(t, host)
		if err := f.(interface{ CanLog(context.Context) error }).CanLog(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(before, b.snapshot(t, host)); diff != "" {
			t.Errorf("after CanLog (-before +after):\n%s", diff)
		}
	})
}
