//go:build netns

package icmp6

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/testnet"
)

// A lease is found by multicast, and nothing else.
func TestResolution(t *testing.T) {
	l := newLab(t)
	l.findsLeases(t, l.up.Resolve)
}

// The same as ndisc6 sees it, on a link without a link-local address: ndisc6 1.0.5
// takes no answer for a global target from a link-local address, not the kernel's
// own proxy's either, because only one of the two has a scope ID.
func TestResolutionByNdisc6(t *testing.T) {
	l := newLab(t)
	l.self.Run(t, "ip", "-6", "addr", "flush", "dev", "eth0")
	l.findsLeases(t, l.up.NDisc6)
}

func (l *lab) findsLeases(t *testing.T, find func(t testing.TB, addr, link string) string) {
	l.add(t, leased)
	if got := find(t, leased, "lan0"); got != l.self.MAC(t, "eth0") {
		t.Errorf("leased address: upstream is told %q, want %s", got, l.self.MAC(t, "eth0"))
	}
	if got := find(t, unknown, "lan0"); got != "" {
		t.Errorf("unknown target: upstream is told %q", got)
	}
	l.proxy.Add("eth0", netip.MustParseAddr("2001:db8::7"))
	l.proxy.Remove("eth0", netip.MustParseAddr(leased))
	if got := find(t, leased, "lan0"); got != "" {
		t.Errorf("removed lease: upstream is told %q", got)
	}
	if got := find(t, "2001:db8::7", "lan0"); got != l.self.MAC(t, "eth0") {
		t.Errorf("added lease: upstream is told %q, want %s", got, l.self.MAC(t, "eth0"))
	}
	counters := l.status().Counters
	if counters["solicited"] != 2 || counters["unknown_target"] < 2 {
		t.Errorf("counters %v, want 2 solicited and 2 or more of unknown target", counters)
	}
}

// Linux resolves a lease, takes us for a router, and its unreachability probes,
// which are unicast, keep the neighbor reachable (RFC 4861 §7.3.3).
func TestLinuxNeighbour(t *testing.T) {
	l := newLab(t)
	l.up.Sysctl(t, "net/ipv6/neigh/lan0/base_reachable_time_ms", "400")
	l.up.Sysctl(t, "net/ipv6/neigh/lan0/delay_first_probe_time", "0")
	l.add(t, leased)
	entry := func() string {
		// Nobody answers the ping; it makes Linux use the neighbor.
		_ = l.up.Command(t.Context(), "ping", "-c", "1", "-W", "0.05", leased).Run()
		return l.up.Run(t, "ip", "neigh", "show", leased, "dev", "lan0")
	}
	eventually(t, "the neighbor is probed", func() bool { entry(); return l.status().Counters["probed"] >= 2 })
	eventually(t, "the neighbor is REACHABLE after a probe", func() bool { return strings.HasSuffix(entry(), "REACHABLE") })
	if got, want := entry(), "lladdr "+l.self.MAC(t, "eth0")+" router"; !strings.Contains(got, want) {
		t.Errorf("neighbor %q, want %q", got, want)
	}
	if n := l.status().Counters["solicited"]; n > 1 {
		t.Errorf("resolved by multicast %d times: a unicast probe was lost", n)
	}
}

// Another Linux host that takes a leased address for itself is told (RFC 4862
// §5.4.4); one that takes a free address is not.
func TestDADIsDefended(t *testing.T) {
	l := newLab(t)
	l.add(t, leased)
	l.up.Sysctl(t, "net/ipv6/conf/lan0/accept_dad", "1")
	l.up.Sysctl(t, "net/ipv6/conf/lan0/dad_transmits", "1")
	l.up.Sysctl(t, "net/ipv6/neigh/lan0/retrans_time_ms", "300")
	l.up.Run(t, "ip", "addr", "add", leased+"/64", "dev", "lan0")
	l.up.Run(t, "ip", "addr", "add", unknown+"/64", "dev", "lan0")
	show := func(flag string) string { return l.up.Run(t, "ip", "-6", "addr", "show", "dev", "lan0", flag) }
	eventually(t, "DAD ends", func() bool {
		return !strings.Contains(show("tentative"), unknown) && strings.Contains(show("dadfailed"), leased)
	})
	if strings.Contains(show("dadfailed"), unknown) {
		t.Error("an address without a lease was defended")
	}
	if n := l.status().Counters["defended"]; n != 1 {
		t.Errorf("%d defended, want 1", n)
	}
}

// RFC 4861 §7.1.1: what has crossed a router is not answered. Nor is a frame of a
// VLAN above the link, or for another host while the link is promiscuous, which
// the link's socket would otherwise get.
func TestInvalidSolicitations(t *testing.T) {
	l := newLab(t)
	l.add(t, leased)
	target := netip.MustParseAddr(leased)
	from := [6]byte{2, 0, 0, 0, 0, 9}
	ns, err := neighborFrame(from, netip.MustParseAddr("2001:db8::9"), solicitedNode(target), &ndp.NeighborSolicitation{TargetAddress: target})
	if err != nil {
		t.Fatal(err)
	}
	old := append([]byte(nil), ns...)
	old[21] = 254
	vlan := append(append(append([]byte(nil), ns[:12]...), 0x81, 0, 0, 100), ns[12:]...)
	elsewhere := append([]byte(nil), ns...)
	copy(elsewhere, []byte{2, 0, 0, 0, 0, 8})
	l.self.Run(t, "ip", "link", "set", "eth0", "promisc", "on")

	var upstream ethernetLink
	var socket *os.File
	l.up.Do(t, func() {
		if upstream, err = findLink(t.Context(), "lan0"); err == nil {
			upstream.hardwareAddr = from
			socket, err = listen(upstream, neighborFilter(upstream, typeAdvertisement))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	for _, f := range [][]byte{vlan, elsewhere, old, ns} { // the valid one last: its answer ends the wait
		if _, err := socket.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the valid one is answered", func() bool { return l.status().Counters["solicited"] > 0 })
	counters := l.status().Counters
	var all uint64
	for _, n := range counters {
		all += n
	}
	if counters["solicited"] != 1 || counters["bad_hop_limit"] != 1 || all != 2 {
		t.Errorf("counters %v, want one solicited, one bad_hop_limit and no other", counters)
	}
}

// A parent that goes down, or is deleted and made anew, heals by its event alone.
func TestLinkComesAndGoes(t *testing.T) {
	l := newLab(t)
	l.add(t, leased)

	l.self.Run(t, "ip", "link", "set", "eth0", "down")
	l.degraded(t, "network is down")
	l.proxy.LinkChanged("eth0")
	l.self.Run(t, "ip", "link", "set", "eth0", "up")
	l.proxy.LinkChanged("eth0")
	l.healthy(t)
	eventually(t, "answers after down and up", func() bool { return l.up.Resolve(t, leased, "lan0") == l.self.MAC(t, "eth0") })

	// By the clock it would be healed after a second; a busy machine may take as long by the
	// event, but not each time.
	shortest := time.Hour
	for range 10 {
		l.self.Run(t, "ip", "link", "del", "eth0")
		l.degraded(t, "")
		l.proxy.LinkChanged("eth0")
		l.degraded(t, "not found")
		l.connect(t)
		began := time.Now()
		l.proxy.LinkChanged("eth0")
		l.healthy(t)
		if shortest = min(shortest, time.Since(began)); shortest < 500*time.Millisecond {
			break
		}
	}
	if shortest > 500*time.Millisecond {
		t.Errorf("healed after %v at the least: by the clock, not by the event", shortest)
	}
	if got := l.up.Find(t, leased, "lan0", l.self.MAC(t, "eth0")); got != l.self.MAC(t, "eth0") {
		t.Errorf("new link: upstream is told %q, want %s", got, l.self.MAC(t, "eth0"))
	}

	l.self.Run(t, "ip", "link", "set", "eth0", "address", "02:00:00:00:00:77")
	l.proxy.LinkChanged("eth0")
	eventually(t, "answers with the new MAC", func() bool { return l.up.Resolve(t, leased, "lan0") == "02:00:00:00:00:77" })
}

// Upstream routers learn a new lease at once (RFC 9131).
func TestAddAnnounces(t *testing.T) {
	l := newLab(t)
	l.up.Sysctl(t, "net/ipv6/conf/lan0/forwarding", "1")
	l.up.Sysctl(t, "net/ipv6/conf/lan0/accept_untracked_na", "1")
	learned := func(addr string) {
		t.Helper()
		eventually(t, "upstream knows "+addr, func() bool {
			return strings.Contains(l.up.Run(t, "ip", "neigh", "show", addr, "dev", "lan0"), l.self.MAC(t, "eth0")+" router STALE")
		})
	}
	l.add(t, leased)
	learned(leased)
	l.add(t, unknown)
	learned(unknown)
}

// The link is in the solicited-node groups of its leases, and receives all
// multicast, exactly as long as it has to.
func TestMemberships(t *testing.T) {
	l := newLab(t)
	groups := func() string { return l.self.Run(t, "ip", "-6", "maddr", "show", "dev", "eth0") }
	l.add(t, leased)
	l.add(t, "2001:db8::1:0:5") // same group
	l.add(t, "2001:db8::b")
	eventually(t, "both groups are joined", func() bool {
		return strings.Contains(groups(), "ff02::1:ff00:5") && strings.Contains(groups(), "ff02::1:ff00:b")
	})
	if got := allmulti(t, l.self); got != "0" {
		t.Errorf("allmulti %s for two groups, want 0", got)
	}
	for i := range uint64(maxGroups) {
		l.proxy.Add("eth0", address(1<<16+i))
	}
	eventually(t, "all multicast is received", func() bool { return allmulti(t, l.self) == "1" })
	for i := range uint64(maxGroups) {
		l.proxy.Remove("eth0", address(1<<16+i))
	}
	l.proxy.Remove("eth0", netip.MustParseAddr("2001:db8::b"))
	eventually(t, "one group is left", func() bool { return !strings.Contains(groups(), "ff02::1:ff00:b") })
	l.proxy.Remove("eth0", netip.MustParseAddr("2001:db8::1:0:5"))
	time.Sleep(20 * time.Millisecond)
	if !strings.Contains(groups(), "ff02::1:ff00:5") {
		t.Error("a group was left that another lease needs")
	}
	l.proxy.Remove("eth0", netip.MustParseAddr(leased))
	eventually(t, "the link is as before", func() bool {
		return allmulti(t, l.self) == "0" && !strings.Contains(groups(), "ff02::1:ff00:5")
	})
	if s := l.proxy.Status(); len(s) != 0 {
		t.Errorf("status without leases: %v", s)
	}
}

// Where there is room for fewer groups than we would join (before Linux 6.8, whose
// limit this is), all multicast is received, and the last address is heard.
func TestFewGroups(t *testing.T) {
	l := newLab(t)
	limit := "net/core/optmem_max"
	before := strings.TrimSpace(l.self.Run(t, "cat", "/proc/sys/"+limit))
	l.self.Sysctl(t, limit, "20480")
	t.Cleanup(func() { l.self.Sysctl(t, limit, before) })
	for i := range uint64(maxGroups) {
		l.proxy.Add("eth0", address(1<<16+i))
	}
	l.healthy(t)
	eventually(t, "all multicast is received", func() bool { return allmulti(t, l.self) == "1" && l.status().AllMulticast })
	if got := strings.Count(l.self.Run(t, "ip", "-6", "maddr", "show", "dev", "eth0"), "ff02::1:ff"); got >= maxGroups {
		t.Errorf("%d groups: there was room for all, the test proves nothing", got)
	}
	last := address(1<<16 + maxGroups - 1).String()
	if got := l.up.Find(t, last, "lan0", l.self.MAC(t, "eth0")); got != l.self.MAC(t, "eth0") {
		t.Errorf("the last address is at %q", got)
	}
	many := make([]netip.Addr, maxGroups)
	for i := range many {
		many[i] = netip.MustParseAddr(fmt.Sprintf("2001:db8:9::%x", i))
	}
	if taken, err := Probe(t.Context(), "eth0", many); err != nil || len(taken) > 0 {
		t.Errorf("a probe of as many addresses: %d taken, %v", len(taken), err)
	}
}

func allmulti(t *testing.T, h *testnet.Host) string {
	t.Helper()
	_, after, ok := strings.Cut(h.Run(t, "ip", "-d", "link", "show", "eth0"), " allmulti ")
	if !ok {
		t.Fatal("ip does not show allmulti")
	}
	return strings.Fields(after)[0]
}

// holdEnv makes a child of the test binary hold a Conn until it is killed.
const holdEnv = "V6NET_ICMP6_HOLD"

func hold() {
	conn, err := Dial(context.Background(), "eth0")
	if err == nil {
		_, err = conn.Join(netip.MustParseAddr(leased))
		err = errors.Join(err, conn.JoinAll())
	}
	fmt.Println("holding", err)
	select {}
}

// Nothing of a Conn is left on the link when its process is killed.
func TestKilledProcessLeavesNothing(t *testing.T) {
	l := newLab(t)
	cmd := l.self.Command(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "holding <nil>\n" {
		t.Fatalf("child says %q", line)
	}
	if got := allmulti(t, l.self); got != "1" {
		t.Errorf("allmulti %s, want 1", got)
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	if got := allmulti(t, l.self); got != "0" {
		t.Errorf("allmulti %s after kill -9, want 0", got)
	}
	if got := l.self.Run(t, "ip", "-6", "maddr", "show", "dev", "eth0"); strings.Contains(got, "ff02::1:ff00:5") {
		t.Errorf("groups after kill -9: %s", got)
	}
}

func TestDialRefuses(t *testing.T) {
	l := newLab(t)
	for link, want := range map[string]string{"lo": "Ethernet", "nothere0": "not found"} {
		if _, err := Dial(t.Context(), link); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Dial(%s): %v, want an error about %q", link, err, want)
		}
	}
	l.self.Run(t, "ip", "link", "set", "eth0", "down")
	if _, err := Dial(t.Context(), "eth0"); err == nil || !strings.Contains(err.Error(), unix.ENETDOWN.Error()) {
		t.Errorf("Dial of a link that is down: %v", err)
	}
}
