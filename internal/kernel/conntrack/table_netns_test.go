//go:build netns

package conntrack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/nft"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

const (
	outside4, host4 = "192.0.2.9", "192.0.2.1"
	outside6, host6 = "2001:db8::9", "2001:db8::1"
	a4, b4          = "172.18.1.2", "172.18.1.3"
	a6              = "2001:db8:1::2"
)

// site is a host with our rules, somebody outside, and a container that is
// replaced by another.
type site struct {
	host, outside, a, b *testnet.Host
	firewall            *nft.Firewall
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{testnet.New(t, "host"), testnet.New(t, "outside"), testnet.New(t, "a"), testnet.New(t, "b"), nil}
	for _, key := range []string{"net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/forwarding"} {
		s.host.Sysctl(t, key, "1")
	}
	testnet.Connect(t, s.host, "eth0", s.outside, "lan0")
	ip(t, s.host, "addr add "+host4+"/24 dev eth0", "addr add "+host6+"/64 dev eth0",
		"link add web type bridge", "addr add fe80::1/64 nodad dev web", "link set web up",
		"addr add 172.18.1.1/24 dev web", "addr add 2001:db8:1::1/64 nodad dev web")
	ip(t, s.outside, "addr add "+outside4+"/24 dev lan0", "addr add "+outside6+"/64 dev lan0", "route add 2001:db8:1::/64 via "+host6)
	for _, c := range []*testnet.Host{s.a, s.b} {
		testnet.Connect(t, s.host, "p"+c.Name(), c, "eth0")
		ip(t, s.host, "link set p"+c.Name()+" master web")
		addr := map[*testnet.Host]string{s.a: a4, s.b: b4}[c]
		ip(t, c, "addr add "+addr+"/24 dev eth0", "route add default via 172.18.1.1")
	}
	s.host.Do(t, func() {
		var err error
		if s.firewall, err = nft.New(slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = s.firewall.Close() })
	return s
}

func ip(t *testing.T, h *testnet.Host, lines ...string) {
	t.Helper()
	for _, line := range lines {
		h.Run(t, append([]string{"ip"}, strings.Fields(line)...)...)
	}
}

// apply makes the rules for the live addresses and the published ports.
func (s *site) apply(t *testing.T, live string, published ...firewall.Published) {
	t.Helper()
	n := firewall.Network{
		ID: "aaaaaaaaaaaa", Bridge: "web", ICC: true, Inbound: spec.InboundPublished, Published: published,
		Pools:      []netip.Prefix{netip.MustParsePrefix("172.18.1.0/24"), netip.MustParsePrefix("2001:db8:1::/64")},
		Masquerade: []netip.Prefix{netip.MustParsePrefix("172.18.1.0/24")},
	}
	for a := range strings.FieldsSeq(live) {
		n.Live = append(n.Live, netip.MustParseAddr(a))
	}
	rules, err := firewall.Build(firewall.Config{Networks: []firewall.Network{n}})
	if err == nil {
		err = s.firewall.Apply(t.Context(), rules)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func udp(container string, port, hostPort uint16) firewall.Published {
	return firewall.Published{Protocol: "udp", Container: netip.MustParseAddr(container), Port: port, HostPort: hostPort}
}

// forget runs f in the host.
func (s *site) forget(t *testing.T, f func(context.Context) error) {
	t.Helper()
	s.host.Do(t, func() {
		if err := f(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func addrs(text ...string) func(context.Context) error {
	var all []netip.Addr
	for _, a := range text {
		all = append(all, netip.MustParseAddr(a))
	}
	return func(ctx context.Context) error { return (&Table{}).Forget(ctx, all) }
}

func ports(p ...firewall.Published) func(context.Context) error {
	return func(ctx context.Context) error { return (&Table{}).ForgetPorts(ctx, p) }
}

// serve answers datagrams with the container's name and what they say, until the end of the test.
func serve(t *testing.T, h *testnet.Host, address string) {
	t.Helper()
	var conn net.PacketConn
	h.Do(t, func() {
		var err error
		if conn, err = net.ListenPacket("udp", address); err != nil {
			t.Fatal(err)
		}
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		var b [64]byte
		for {
			n, from, err := conn.ReadFrom(b[:])
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = conn.WriteTo(fmt.Appendf(nil, "%s %s", h.Name(), b[:n]), from)
			}
		}
	})
	t.Cleanup(func() { _ = conn.Close(); wg.Wait() })
}

// client is a socket that keeps its port, as a resolver or a VPN does.
type client struct {
	conn  net.PacketConn
	to    net.Addr
	asked int
}

func dial(t *testing.T, h *testnet.Host, to string) *client {
	t.Helper()
	c := &client{to: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))}
	h.Do(t, func() {
		var err error
		if c.conn, err = net.ListenPacket("udp", ":0"); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// ask is who answers one of so many datagrams; empty: nobody. Answers to what
// was asked before, which the neighbour's resolution may have held up, do not count.
func (c *client) ask(t *testing.T, datagrams int) string {
	t.Helper()
	c.asked++
	question := strconv.Itoa(c.asked)
	var b [64]byte
	for range datagrams {
		if err := c.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.conn.WriteTo([]byte(question), c.to); err != nil {
			t.Fatal(err)
		}
		for {
			n, _, err := c.conn.ReadFrom(b[:])
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if who, answered, _ := strings.Cut(string(b[:n]), " "); answered == question {
				return who
			}
		}
	}
	return ""
}

func (c *client) wants(t *testing.T, want, when string) {
	t.Helper()
	datagrams := 3
	if want != "" {
		datagrams = 20 // a neighbour's resolution that fails is tried again after a second
	}
	if got := c.ask(t, datagrams); got != want {
		t.Errorf("%s: answered by %q, want %q", when, got, want)
	}
}

// A client that keeps its port follows a published port to the new container (moby#8795).
func TestReplacedContainer(t *testing.T) {
	s := newSite(t)
	serve(t, s.a, a4+":53")
	serve(t, s.b, b4+":53")
	s.apply(t, a4, udp(a4, 53, 5353))
	c := dial(t, s.outside, host4+":5353")
	c.wants(t, "a", "published to a")
	s.apply(t, b4, udp(b4, 53, 5353))
	c.wants(t, "", "a is gone, and conntrack remembers it: the test would prove nothing")
	s.forget(t, addrs(a4))
	c.wants(t, "b", "published to b")
}

// A client that asked too early is led to the container once the port is published.
func TestPublishedLater(t *testing.T) {
	s := newSite(t)
	serve(t, s.a, a4+":53")
	s.apply(t, a4)
	s.host.Run(t, "nft", "add table inet test; add chain inet test in { type filter hook input priority 0; }; add rule inet test in ct state new accept")
	early, later := dial(t, s.outside, host4+":5353"), udp(a4, 53, 5353)
	early.wants(t, "", "not published")
	s.apply(t, a4, later)
	early.wants(t, "", "conntrack remembers that it was the host's: the test would prove nothing")
	s.forget(t, ports(later))
	early.wants(t, "a", "published")
}

// What an address's last owner let in is not let in to the next one.
func TestReusedAddress(t *testing.T) {
	s := newSite(t)
	ip(t, s.a, "addr add "+a6+"/64 nodad dev eth0", "route add default via 2001:db8:1::1")
	serve(t, s.a, "["+a6+"]:53")
	s.apply(t, a6, udp(a6, 53, 0))
	c := dial(t, s.outside, "["+a6+"]:53")
	c.wants(t, "a", "published")

	ip(t, s.host, "link set pa down")
	ip(t, s.b, "addr add "+a6+"/64 nodad dev eth0", "route add default via 2001:db8:1::1")
	ip(t, s.host, "-6 neigh flush dev web")
	serve(t, s.b, "["+a6+"]:53")
	s.apply(t, a6)
	c.wants(t, "b", "b published nothing, and conntrack remembers a: without this the test would prove nothing")
	s.forget(t, addrs(a6))
	c.wants(t, "", "b published nothing")
}

// What somebody had let in at an address that no endpoint has is not let in on the next
// network of the prefix.
func TestReusedPool(t *testing.T) {
	s := newSite(t)
	const made6 = "2001:db8:1::53:1"
	ip(t, s.a, "addr add "+made6+"/64 nodad dev eth0", "route add default via 2001:db8:1::1")
	serve(t, s.a, "["+made6+"]:53")
	serve(t, s.a, a4+":53")
	s.apply(t, made6+" "+a4, udp(made6, 53, 0), udp(a4, 53, 5353))
	c, other := dial(t, s.outside, "["+made6+"]:53"), dial(t, s.outside, host4+":5353")
	c.wants(t, "a", "let in")
	other.wants(t, "a", "let in by the other pool")
	s.apply(t, made6+" "+a4, udp(a4, 53, 5353))
	c.wants(t, "a", "conntrack remembers it: without this the test would prove nothing")
	s.forget(t, func(ctx context.Context) error {
		return (&Table{}).ForgetPools(ctx, []netip.Prefix{netip.MustParsePrefix("2001:db8:1::/64")})
	})
	c.wants(t, "", "nothing is let in")
	if tracked := s.host.Run(t, "conntrack", "-L", "-p", "udp"); !strings.Contains(tracked, "dport=5353") {
		t.Errorf("a connection of another pool is forgotten, too:\n%s", tracked)
	}
}

// Closing a port ends the connections to it and no others, translated or not.
func TestClosedPort(t *testing.T) {
	for _, tc := range []struct{ name, container, outside, host, port53, port54 string }{
		{"IPv4 by the host's port", a4, outside4, host4, "5353", "5354"},
		{"IPv6 by the host's port", a6, outside6, host6, "5353", "5354"},
		{"IPv6 by the container's address", a6, outside6, a6, "53", "54"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t)
			ip(t, s.a, "addr add "+a6+"/64 nodad dev eth0", "route add default via 2001:db8:1::1")
			to := func(address, port string) string { return net.JoinHostPort(address, port) }
			serve(t, s.a, to(tc.container, "53"))
			serve(t, s.a, to(tc.container, "54"))
			serve(t, s.outside, to(tc.outside, "53"))
			p53, p54 := udp(tc.container, 53, 0), udp(tc.container, 54, 0)
			if tc.host != tc.container {
				p53.HostPort, p54.HostPort = 5353, 5354
			}
			s.apply(t, tc.container, p53, p54)
			to53, to54, out := dial(t, s.outside, to(tc.host, tc.port53)), dial(t, s.outside, to(tc.host, tc.port54)), dial(t, s.a, to(tc.outside, "53"))
			to53.wants(t, "a", "published")
			to54.wants(t, "a", "published")
			out.wants(t, "outside", "egress")
			before := s.entries(t, "id")
			s.apply(t, tc.container, p54)
			to53.wants(t, "a", "closed, and conntrack remembers it: the test would prove nothing")
			s.forget(t, ports(p53))
			after := s.entries(t, "id")
			if len(before) != 3 || len(after) != 2 {
				t.Errorf("entries before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
			to53.wants(t, "", "closed")
			to54.wants(t, "a", "still published")
			out.wants(t, "outside", "egress")
		})
	}
}

// entries are the host's entries for UDP, as conntrack(8) prints them.
func (s *site) entries(t *testing.T, options string) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(s.host.Run(t, "conntrack", "-L", "-p", "udp", "-o", options)) {
		if strings.HasPrefix(line, "udp") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

// Where nothing is tracked there is nothing to forget.
func TestNothingTracked(t *testing.T) {
	host := testnet.New(t, "host")
	host.Do(t, func() {
		for _, f := range []func(context.Context) error{addrs(), addrs(a4, a6), ports(), ports(udp(a4, 53, 5353), udp(a6, 53, 0))} {
			if err := f(t.Context()); err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := addrs(a4)(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("with the caller gone: %v", err)
		}
	})
}

// On a host with few connections the table is gone through once, whatever is to go, and on one
// without any not at all: that takes ten milliseconds each, with few entries or none.
func TestTableIsReadAsOftenAsItMust(t *testing.T) {
	filters := map[filter]bool{}
	for _, a := range []string{a4, a6} {
		filters[askedBy(netip.MustParseAddr(a))], filters[answeredBy(netip.MustParseAddr(a))] = true, true
	}
	host := testnet.New(t, "host")
	made := 0
	for _, tc := range []struct{ entries, want int }{{0, 0}, {100, 1}, {fewEntries, 1}, {fewEntries + 100, len(filters)}} {
		host.Do(t, func() {
			fillFrom(t, made, tc.entries)
			made = tc.entries
			n, err := count()
			if err != nil || n != tc.entries {
				t.Errorf("%d entries, %v, want %d", n, err, tc.entries)
			}
			if got := len(questions(n, unix.AF_UNSPEC, filters)); got != tc.want {
				t.Errorf("with %d entries the table is read %d times, want %d", n, got, tc.want)
			}
		})
	}
}

// A busy host has 100,000 entries; a container's end must not wait for them. The kernel
// hands over what is to go and nothing else.
func TestLargeTable(t *testing.T) {
	const size = 100_000
	host := testnet.New(t, "host")
	host.Do(t, func() {
		fill(t, size)
		for _, port := range []uint16{53, 54} {
			client, server := at(unix.IPPROTO_UDP, "[2001:db8::9]:4000").at, netip.AddrPortFrom(netip.MustParseAddr(a6), port)
			create(t, entry{unix.IPPROTO_UDP, tuple{client, server}, tuple{server, client}})
		}
		handed := func(question []byte) (n int) {
			began := time.Now()
			err := request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, question, func([]byte) bool { n++; return true })
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d entries handed over in %v", n, time.Since(began))
			return n
		}
		gone := netip.MustParseAddr("10.0.0.1")
		for _, tc := range []struct {
			what     string
			question []byte
			want     int
		}{
			{"all", []byte{unix.AF_INET, 0, 0, 0}, size},
			{"asked by one", askedBy(gone).request(), 100},
			{"answered by one", answeredBy(netip.MustParseAddr("192.0.2.1")).request(), size},
			{"answered by nobody", answeredBy(gone).request(), 0},
			{"to a port", askedAt(at(unix.IPPROTO_UDP, ":53")).request(), size},
			{"to another port", askedAt(at(unix.IPPROTO_UDP, ":54")).request(), 0},
			{"to the port of another protocol", askedAt(at(unix.IPPROTO_TCP, ":53")).request(), 0},
			{"from a port", answeredAt(at(unix.IPPROTO_UDP, ":53")).request(), size},
			{"from another port", answeredAt(at(unix.IPPROTO_UDP, ":1024")).request(), 0},
			{"all of IPv6", askedBy(netip.MustParseAddr(a6)).request(), 2},
			{"from a port of IPv6", answeredAt(at(unix.IPPROTO_UDP, "[::]:54")).request(), 1},
			{"to a port of IPv6", askedAt(at(unix.IPPROTO_UDP, "[::]:54")).request(), 1},
		} {
			if got := handed(tc.question); got != tc.want {
				t.Errorf("%s: %d entries, want %d", tc.what, got, tc.want)
			}
		}
		began := time.Now()
		if err := addrs("10.0.0.1", a6)(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("one container of %d entries forgotten in %v", size, time.Since(began))
	})
	if out := host.Run(t, "conntrack", "-C"); strings.TrimSpace(out) != "99900" {
		t.Errorf("%s entries left, want %d", out, size-100)
	}
	// Many at once are read once.
	host.Do(t, func() {
		var many []string
		for i := 2; i < 50; i++ {
			many = append(many, fmt.Sprintf("10.0.0.%d", i))
		}
		if err := addrs(many...)(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	if out := host.Run(t, "conntrack", "-C"); strings.TrimSpace(out) != "95100" {
		t.Errorf("%s entries left, want %d", out, size-4900)
	}
}

// Many that are forgotten at once are not forgotten one after the other.
func TestForgottenTogether(t *testing.T) {
	host := testnet.New(t, "host")
	host.Do(t, func() {
		fill(t, 3000)
		table := &Table{}
		table.turn.Lock() // somebody is at it
		var wg sync.WaitGroup
		for n := 1; n <= 20; n++ {
			wg.Go(func() {
				host.Do(t, func() {
					if err := table.Forget(t.Context(), []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})}); err != nil {
						t.Error(err)
					}
				})
			})
		}
		for {
			table.mu.Lock()
			waiting := table.next != nil && len(table.next.addrs) == 20
			table.mu.Unlock()
			if waiting {
				break
			}
			time.Sleep(time.Millisecond)
		}
		table.turn.Unlock()
		wg.Wait()
	})
	if out := host.Run(t, "conntrack", "-C"); strings.TrimSpace(out) != "1000" {
		t.Errorf("%s entries left, want 1000", out)
	}
}

// fill makes entries: 100 connections from each of many addresses.
func fill(t *testing.T, size int) {
	t.Helper()
	fillFrom(t, 0, size)
}

// fillFrom makes those that are missing.
func fillFrom(t *testing.T, have, size int) {
	t.Helper()
	for i := have; i < size; i++ {
		n := i/100 + 1
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), uint16(1024+i%100))
		dst := netip.MustParseAddrPort("192.0.2.1:53")
		create(t, entry{unix.IPPROTO_UDP, tuple{src, dst}, tuple{dst, src}})
	}
}

func create(t *testing.T, e entry) {
	t.Helper()
	m := append(message(e), attr(nl.CTA_TIMEOUT, 0, 0, 2, 0)...)
	m[0] = familyOf([]netip.Addr{e.original.src.Addr()})
	if err := request(nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, m, func([]byte) bool { return true }); err != nil {
		t.Fatalf("make entry %s: %v", e, err)
	}
}

func at(protocol uint8, port string) service {
	if port[0] == ':' {
		port = "0.0.0.0" + port
	}
	return service{protocol, netip.MustParseAddrPort(port)}
}
