//go:build netns

package nft

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/testnet"
)

// counter counts the datagrams that come to an address, until it is closed or the test ends.
type counter struct {
	atomic.Int64
	Close func()
}

func count(t testing.TB, h *testnet.Host, address string) *counter {
	t.Helper()
	var conn net.PacketConn
	h.Do(t, func() {
		var err error
		if conn, err = net.ListenPacket("udp", address); err != nil {
			t.Fatal(err)
		}
	})
	var n counter
	var wg sync.WaitGroup
	wg.Go(func() {
		var b [64]byte
		for {
			if _, _, err := conn.ReadFrom(b[:]); err != nil {
				return
			}
			n.Add(1)
		}
	})
	n.Close = func() { _ = conn.Close(); wg.Wait() }
	t.Cleanup(n.Close)
	return &n
}

// within reports whether a condition comes true in so long.
func within(most time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(most); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// eventually reports whether a condition comes true that must.
func eventually(condition func() bool) bool { return within(longest, condition) }

// send sends one datagram from an address and port of a host, or from any.
func send(t testing.TB, from *testnet.Host, local, to string) {
	t.Helper()
	from.Do(t, func() {
		var d net.Dialer
		if local != "" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local))
		}
		conn, err := d.Dial("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
	})
}

// A service that trusts its neighbours, and published, hears nobody elsewhere who says
// that he is one (RFC 6092 REC-6).
func TestPosersAreDropped(t *testing.T) { eachKind(t, testPosersAreDropped) }

func testPosersAreDropped(t *testing.T, b backend) {
	s := b.site(t)
	s.config.Networks[0].Published = append(s.config.Networks[0].Published,
		firewall.Published{Protocol: "udp", Container: netip.MustParseAddr("2001:db8:1::2"), Port: 55})
	apply(t, s.open(t), s.config)
	ip(t, s.outside, "addr add 2001:db8:1::7777/128 nodad dev lo")
	const service = "[2001:db8:1::2]:55"
	got := count(t, s.c["web2"], service)
	send(t, s.outside, "", service)
	if !eventually(func() bool { return got.Load() == 1 }) {
		t.Fatal("the published service is not reached: the test would prove nothing")
	}
	for range 10 {
		send(t, s.outside, "[2001:db8:1::7777]:0", service)
	}
	send(t, s.outside, "", service) // comes last
	if !eventually(func() bool { return got.Load() > 1 }) {
		t.Fatal("the honest datagram does not arrive")
	}
	if n := got.Load(); n != 2 {
		t.Errorf("%d datagrams under the address of a neighbour reached %s", n-2, service)
	}
}

// Nobody on a bridge has a loopback address: the host's services take such a
// sender for the host itself.
func TestLoopbackSourcesAreDropped(t *testing.T) { eachKind(t, testLoopbackSourcesAreDropped) }

func testLoopbackSourcesAreDropped(t *testing.T, b backend) {
	s := b.site(t)
	s.host.Sysctl(t, "net/ipv4/conf/all/rp_filter", "0")
	s.host.Sysctl(t, "net/ipv4/conf/web/rp_filter", "0")
	attacker := s.c["web2"]
	attacker.Sysctl(t, "net/ipv4/conf/all/route_localnet", "1")
	const service = "172.18.1.1:7778"
	got := count(t, s.host, service)
	send(t, attacker, "127.0.0.5:0", service)
	if !eventually(func() bool { return got.Load() == 1 }) {
		t.Fatal("without a ruleset the forged datagram does not arrive: the test would prove nothing")
	}
	apply(t, s.open(t), s.config)
	for range 10 {
		send(t, attacker, "127.0.0.5:0", service)
	}
	send(t, attacker, "", service) // comes last
	if !eventually(func() bool { return got.Load() > 1 }) {
		t.Fatal("the honest datagram does not arrive")
	}
	if n := got.Load(); n != 2 {
		t.Errorf("%d datagrams from 127.0.0.5 reached the host's %s", n-2, service)
	}
}

// Whoever scans a prefix must not fill the host's neighbour cache (RFC 6583).
func TestScansMakeNoNeighbours(t *testing.T) { eachKind(t, testScansMakeNoNeighbours) }

func testScansMakeNoNeighbours(t *testing.T, b backend) {
	s := b.site(t)
	apply(t, s.open(t), s.config)
	const scanned = 10
	scan := func(from *testnet.Host) {
		var wg sync.WaitGroup
		for i := range scanned {
			for _, to := range []string{"2001:db8:1::a%02d", "2001:db8:4::a%02d", "2001:db8:5::a%02d", "2001:db8:7::a%02d", "fd00:2::a%02d"} {
				send(t, from, "", fmt.Sprintf("["+to+"]:81", i))
				wg.Go(func() {
					_ = from.Command(t.Context(), "ping", "-c", "1", "-W", "0.1", fmt.Sprintf(to, i)).Run()
				})
			}
			for _, to := range []string{"172.18.1.%d:8080", "172.18.4.%d:81"} {
				send(t, from, "", fmt.Sprintf(to, 100+i))
			}
		}
		wg.Wait()
	}
	scan(s.outside)
	scan(s.c["mutual2"]) // not isolated from network 7
	s.wantNeighbours(t, 0)
	s.wantReached(t, s.outside, "tcp", "[2001:db8:4::2]:81", true)
	s.wantReached(t, s.c["mutual2"], "tcp", "[2001:db8:7::2]:81", true)
}

// invent has scapy make what has a host look at, and keep, who sends it: solicitations and
// packets from link-local addresses, and ARP, from many that nobody has.
const invent = `
from scapy.all import *
me, router = "02:00:00:00:01:02", sys.argv[1]
for i in range(10):
    local = "fe80::a%02d" % i
    def six(dst): return Ether(src=me, dst=router)/IPv6(src=local, dst=dst, hlim=255)
    print(raw(six("fe80::1")/ICMPv6ND_NS(tgt="fe80::1")/ICMPv6NDOptSrcLLAddr(lladdr=me)).hex())
    print(raw(six("ff02::2")/ICMPv6ND_RS()/ICMPv6NDOptSrcLLAddr(lladdr=me)).hex())
    print(raw(six("2001:db8:1::1")/ICMPv6EchoRequest()).hex())
    print(raw(Ether(src=me, dst=router)/ARP(hwsrc=me, psrc="169.254.7.%d" % i, pdst="172.18.1.1")).hex())
`

// Nor must whoever sends from many addresses that it has made up. ARP is judged at ports alone.
func TestInventedSendersAreNoNeighbours(t *testing.T) { eachKind(t, testInventedSenders) }

func testInventedSenders(t *testing.T, b backend) {
	s := b.site(t)
	for _, conf := range []string{"all", "web"} { // the kernel itself keeps who is not expected there
		s.host.Sysctl(t, "net/ipv4/conf/"+conf+"/rp_filter", "0")
	}
	var made string
	s.host.Do(t, func() {
		bridge, err := net.InterfaceByName("web")
		if err != nil {
			t.Fatal(err)
		}
		made = s.host.Run(t, "/usr/bin/python3", "-c", invent, bridge.HardwareAddr.String())
	})
	out := packetSocket(t, s.c["web2"], "eth0")
	neighbours := func() (six, four int) {
		for line := range strings.Lines(made) {
			frame, err := hex.DecodeString(strings.TrimSpace(line))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(out, frame); err != nil {
				t.Fatal(err)
			}
		}
		ping := s.c["web2"].Command(t.Context(), "ping", "-c", "1", "-W", "2", "2001:db8:1::1") // comes last
		if text, err := ping.CombinedOutput(); err != nil {
			t.Fatalf("the host is not reached: %s", text)
		}
		six = strings.Count(s.host.Run(t, "ip", "-6", "neigh", "show", "nud", "all", "dev", "web"), "fe80::a")
		return six, strings.Count(s.host.Run(t, "ip", "-4", "neigh", "show", "nud", "all", "dev", "web"), "169.254.7.")
	}
	if six, four := neighbours(); six != 10 || four != 10 {
		t.Fatalf("without rules there are %d and %d neighbours: the test would prove nothing", six, four)
	}
	for _, family := range []string{"-4", "-6"} {
		s.host.Run(t, "ip", family, "neigh", "flush", "dev", "web", "nud", "all")
	}
	apply(t, s.open(t), s.config)
	six, four := neighbours()
	if six != 0 {
		t.Errorf("%d link-local neighbours that a container has made up", six)
	}
	if four != 0 && b.frames {
		t.Errorf("%d IPv4 neighbours that a container has made up", four)
	}
}

// A connection that conntrack knows does not make the host look for an address
// that nobody has any more.
func TestEstablishedToTheDead(t *testing.T) { eachKind(t, testEstablishedToTheDead) }

func testEstablishedToTheDead(t *testing.T, b backend) {
	s := b.site(t)
	f := s.open(t)
	apply(t, f, s.config)
	const client, server = "[2001:db8:1::2]:5001", "[" + outside6 + "]:5000"
	asked := count(t, s.outside, server)
	send(t, s.c["web2"], client, server)
	if !eventually(func() bool { return asked.Load() == 1 }) {
		t.Fatal("the container does not get out")
	}
	asked.Close()
	dead := s.config
	dead.Networks = slices.Clone(dead.Networks)
	dead.Networks[0].Live, dead.Networks[0].Published = nil, nil
	ip(t, s.host, "link set v6nvweb2 down")
	s.host.Run(t, "ip", "-6", "neigh", "flush", "dev", "web")
	answer := func(most time.Duration) bool {
		send(t, s.outside, server, client)
		return within(most, func() bool {
			return strings.Contains(s.host.Run(t, "ip", "-6", "neigh", "show", "dev", "web"), "2001:db8:1::2 ")
		})
	}
	apply(t, f, dead)
	if answer(3 * patience) {
		t.Error("the host looks for a dead address")
	}
	apply(t, f, s.config)
	if !answer(longest) {
		t.Error("alive, it is not looked for: the test proves nothing")
	}
}

// wantNeighbours counts the host's neighbours that only a scan can have made.
func (s *site) wantNeighbours(t testing.TB, want int) {
	t.Helper()
	got := 0
	all := s.host.Run(t, "ip", "-4", "neigh") + "\n" + s.host.Run(t, "ip", "-6", "neigh")
	for line := range strings.Lines(all) {
		addr, _, _ := strings.Cut(line, " ")
		scanned := strings.Contains(addr, "::a")
		if strings.HasPrefix(addr, "fe80:") {
			scanned = !strings.Contains(addr, "ff:fe") // which is made of a MAC address
		}
		if scanned || strings.HasPrefix(addr, "172.18.") && len(addr) == len("172.18.1.100") {
			got++
		}
	}
	if got != want {
		t.Errorf("%d neighbours after a scan, want %d:\n%s", got, want, all)
	}
}

// No packet meets a gap between two rulesets.
func TestNothingSlipsInWhileRulesChange(t *testing.T) { eachBackend(t, testNothingSlipsIn) }

func testNothingSlipsIn(t *testing.T, b backend) {
	s := b.site(t)
	f := s.open(t)
	apply(t, f, s.config)
	unpublished := []string{"[2001:db8:1::2]:9999", "172.18.1.2:9999", "[fd00:2::2]:9999"}
	slipped := []*counter{
		count(t, s.c["web2"], unpublished[0]), count(t, s.c["web2"], unpublished[1]), count(t, s.c["ula2"], unpublished[2])}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent atomic.Int64
	var wg sync.WaitGroup
	for _, to := range unpublished {
		wg.Go(func() {
			for ; ctx.Err() == nil; time.Sleep(time.Millisecond) { // the rest of the machine is to change rules
				// A new port each time: conntrack knows none of them.
				if conn, err := s.outside.DialContext(ctx, "udp", to); err == nil {
					for range 20 {
						_, _ = conn.Write([]byte("?"))
						sent.Add(1)
					}
					_ = conn.Close()
				}
			}
		})
	}
	times := 6 // each of which takes the programs long enough for many a packet
	if b.frames {
		times = 30
	}
	if err := s.reload(t, f, times); err != nil {
		t.Error(err)
	}
	cancel()
	wg.Wait()
	time.Sleep(50 * time.Millisecond)
	for i, to := range unpublished {
		if n := slipped[i].Load(); n > 0 {
			t.Errorf("%d datagrams to %s slipped in", n, to)
		}
	}
	t.Logf("%d datagrams sent to unpublished ports", sent.Load())
	if sent.Load() == 0 {
		t.Error("nothing was sent")
	}
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, to := range unpublished {
		send(t, s.outside, "", to)
		if !eventually(func() bool { return slipped[i].Load() > 0 }) {
			t.Errorf("without a ruleset nothing comes to %s: the test proves nothing", to)
		}
	}
}

// pastTheBridge has scapy make datagrams to the host, in frames that a bridge forwards to
// nobody, and does not filter (IEEE 802.1Q, reserved addresses).
const pastTheBridge = `
from scapy.all import *
import sys
host6, host4, *sources = sys.argv[1:]
for source in sources:
    layer = IPv6(src=source, dst=host6) if ":" in source else IP(src=source, dst=host4)
    for group in "01:80:c2:00:00:0e", "01:80:c2:00:00:03":
        print(raw(Ether(src="02:00:00:00:01:02", dst=group)/layer/UDP(sport=4000, dport=7700)/Raw(b"?")).hex())
`

// What a container sends past its bridge, by a port that leaves it to the host
// (TestReservedAddressesAreJudged has the others), gets nowhere: neither under addresses of others,
// nor from a network that does not reach its host, nor where it may send what it likes.
func TestPastTheBridge(t *testing.T) { eachKind(t, testPastTheBridge) }

func testPastTheBridge(t *testing.T, b backend) {
	s := b.site(t)
	for _, conf := range []string{"all", "default", "v6nvweb2", "v6nvalone2"} {
		s.host.Sysctl(t, "net/ipv4/conf/"+conf+"/rp_filter", "0")
	}
	var frames [][]byte
	for line := range strings.Lines(s.host.Run(t, "/usr/bin/python3", "-c", pastTheBridge, host6, host4, outside6, outside4, "2001:db8:1::2", "172.18.1.2")) {
		frame, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
	}
	got := count(t, s.host, ":7700")
	sockets := []int{packetSocket(t, s.c["web2"], "eth0"), packetSocket(t, s.c["alone2"], "eth0")}
	past := func() {
		for _, out := range sockets {
			for _, frame := range frames {
				if _, err := unix.Write(out, frame); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	past()
	if want := int64(len(sockets) * len(frames)); !eventually(func() bool { return got.Load() == want }) {
		t.Fatalf("without rules %d of %d datagrams get there: the test would prove nothing", got.Load(), want)
	}
	f := s.open(t)
	for _, anySource := range []bool{false, true} {
		before := got.Load()
		s.config.Networks[0].AnySource = anySource
		apply(t, f, s.config)
		past()
		send(t, s.c["web2"], "", "["+host6+"]:7700") // comes last
		if !eventually(func() bool { return got.Load() > before }) {
			t.Fatal("the honest datagram does not arrive")
		}
		if n := got.Load() - before; n != 1 {
			t.Errorf("antispoof %v: %d datagrams got past the bridge", !anySource, n-1)
		}
	}
}
