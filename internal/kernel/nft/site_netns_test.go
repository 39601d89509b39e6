//go:build netns

package nft

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// site is a host with an uplink, containers on its bridges, and somebody outside.
type site struct {
	backend
	host    *testnet.Host
	outside *testnet.Host
	c       map[string]*testnet.Host // containers
	config  firewall.Config
}

const (
	host4, host6       = "192.0.2.1", "2001:db8::1"
	outside4, outside6 = "192.0.2.9", "2001:db8::9"
)

// siteTranslation is of network number 10.
var siteTranslation = spec.Translation{Inside: netip.MustParsePrefix("fd00:a::/64"), Outside: netip.MustParsePrefix("2001:db8:a::/64")}

// container is one of a network's; its addresses end in the same number.
type container struct {
	name string
	id   int
}

// siteNetwork is network number n: 172.18.n.0/24 and, where global, 2001:db8:n::/64.
type siteNetwork struct {
	network    firewall.Network
	n          int
	prefix6    string
	containers []container
}

func (c container) addr4(n siteNetwork) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 18, byte(n.n), byte(c.id)})
}

func (c container) addr6(n siteNetwork) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("%s%d", n.prefix6, c.id))
}

func (c container) mac(n siteNetwork) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", n.n, c.id) }

func (c container) port() string { return spec.VethPrefix + c.name }

func siteNetworks() []siteNetwork {
	addr := netip.MustParseAddr
	return []siteNetwork{
		{
			firewall.Network{ID: "aaaaaaaaaaaa", Bridge: "web", ICC: true, Isolate: true, Inbound: spec.InboundPublished,
				Resolvers: []netip.Addr{addr("2001:db8:1::1"), addr("172.18.1.1")},
				Published: []firewall.Published{
					{Protocol: "tcp", Container: addr("2001:db8:1::2"), Port: 80},
					{Protocol: "udp", Container: addr("2001:db8:1::2"), Port: 53},
					{Protocol: "tcp", Container: addr("172.18.1.2"), Port: 80, HostPort: 8080},
					{Protocol: "tcp", Container: addr("172.18.1.2"), Port: 80, HostIP: addr("127.0.0.1"), HostPort: 8086},
					{Protocol: "udp", Container: addr("172.18.1.2"), Port: 53, HostPort: 5353},
					{Protocol: "tcp", Container: addr("172.18.1.3"), Port: 80, HostIP: addr(host4), HostPort: 8081},
					{Protocol: "tcp", Container: addr("172.18.1.3"), Port: 80, HostIP: addr("192.0.2.2"), HostPort: 8082},
				}},
			1, "2001:db8:1::", []container{{"web2", 2}, {"web3", 3}},
		},
		{
			firewall.Network{ID: "bbbbbbbbbbbb", Bridge: "ula", ICC: true, Isolate: true, Inbound: spec.InboundPublished,
				Masquerade: prefixes("fd00:2::/64"),
				Published:  []firewall.Published{{Protocol: "tcp", Container: addr("fd00:2::2"), Port: 80, HostPort: 4430}}},
			2, "fd00:2::", []container{{"ula2", 2}, {"ula3", 3}},
		},
		{
			firewall.Network{ID: "cccccccccccc", Bridge: "internal", Internal: true, ICC: true, Inbound: spec.InboundPublished,
				Resolvers: []netip.Addr{addr("2001:db8:3::1")},
				Published: []firewall.Published{{Protocol: "tcp", Container: addr("2001:db8:3::2"), Port: 80}}},
			3, "2001:db8:3::", []container{{"internal2", 2}, {"internal3", 3}},
		},
		{
			firewall.Network{ID: "dddddddddddd", Bridge: "open", ICC: false, Isolate: true, Inbound: spec.InboundOpen,
				Published: []firewall.Published{{Protocol: "tcp", Container: addr("172.18.4.2"), Port: 80, HostPort: 8084}}},
			4, "2001:db8:4::", []container{{"open2", 2}, {"open3", 3}},
		},
		{
			firewall.Network{ID: "eeeeeeeeeeee", Bridge: "none", ICC: true, Inbound: spec.InboundNone,
				Published: []firewall.Published{
					{Protocol: "tcp", Container: addr("2001:db8:5::2"), Port: 80},
					{Protocol: "tcp", Container: addr("172.18.5.2"), Port: 80, HostPort: 8085},
				}},
			5, "2001:db8:5::", []container{{"none2", 2}},
		},
		{
			firewall.Network{ID: "ffffffffffff", Bridge: "mutual", ICC: true, Inbound: spec.InboundPublished},
			6, "2001:db8:6::", []container{{"mutual2", 2}},
		},
		{
			firewall.Network{ID: "999999999999", Bridge: "mutual7", ICC: true, Inbound: spec.InboundPublished},
			7, "2001:db8:7::", []container{{"seven2", 2}},
		},
		{
			firewall.Network{ID: "888888888888", Bridge: "direct", ICC: true, Isolate: true, Inbound: spec.InboundPublished,
				Unprotected4: true, Unprotected6: true, Masquerade: prefixes("fd00:8::/64"), Outbound4: addr("192.0.2.2"), Outbound6: addr("2001:db8::2"),
				Published: []firewall.Published{{Protocol: "tcp", Container: addr("172.18.8.2"), Port: 80, HostPort: 8088}}},
			8, "fd00:8::", []container{{"direct2", 2}},
		},
		{
			firewall.Network{ID: "777777777777", Bridge: "alone", Internal: true, ICC: true, Isolated4: true, Isolated6: true},
			9, "fd00:9::", []container{{"alone2", 2}, {"alone3", 3}},
		},
		{
			firewall.Network{ID: "666666666666", Bridge: "npt", ICC: true, Isolate: true, Inbound: spec.InboundPublished,
				Translations: []spec.Translation{siteTranslation},
				Published: []firewall.Published{
					{Protocol: "tcp", Container: addr("fd00:a::2"), Port: 80},
					{Protocol: "udp", Container: addr("fd00:a::2"), Port: 53},
					{Protocol: "udp", Container: addr("fd00:a::2"), Port: 54}, // where nobody listens
				}},
			10, "fd00:a::", []container{{"npt2", 2}, {"npt3", 3}},
		},
	}
}

// newSite builds the site; no rule is in place yet. Every container listens on
// TCP ports 80 and 81 and UDP port 53, and so does the outside.
func newSite(t testing.TB) *site {
	t.Helper()
	return newSiteOn(t, backends[0])
}

func newSiteOn(t testing.TB, b backend) *site {
	t.Helper()
	s := &site{backend: b, host: b.host(t, "host"), outside: testnet.New(t, "outside"), c: map[string]*testnet.Host{}}
	s.config.Parents = []string{"eth0"}
	for _, key := range []string{"net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/forwarding"} {
		s.host.Sysctl(t, key, "1")
	}
	testnet.Connect(t, s.host, "eth0", s.outside, "lan0")
	ip(t, s.host, "addr add "+host4+"/24 dev eth0", "addr add 192.0.2.2/24 dev eth0", "addr add "+host6+"/64 dev eth0", "addr add 2001:db8::2/64 nodad preferred_lft 0 dev eth0")
	ip(t, s.outside, "addr add "+outside4+"/24 dev lan0", "addr add "+outside6+"/64 dev lan0",
		// The private ranges, too: knowing the way must not be enough.
		"route add 172.18.0.0/16 via "+host4, "route add 2001:db8::/32 via "+host6, "route add fd00::/16 via "+host6)
	listen(t, s.outside, "tcp", ":80")
	listen(t, s.outside, "udp", ":53")
	listen(t, s.host, "tcp", ":7070")
	listen(t, s.host, "udp", "127.0.0.53:5353") // as systemd-resolved, on a port that is published as well
	for _, n := range siteNetworks() {
		s.add(t, n)
	}
	for _, nameServer := range []string{"2001:db8:1::1", "172.18.1.1", "2001:db8:3::1", host6} { // the last is the host's own
		listen(t, s.host, "udp", net.JoinHostPort(nameServer, "53"))
		listen(t, s.host, "tcp", net.JoinHostPort(nameServer, "53"))
	}
	return s
}

func (s *site) add(t testing.TB, n siteNetwork) {
	t.Helper()
	bridge, subnet4 := n.network.Bridge, fmt.Sprintf("172.18.%d.", n.n)
	n.network.Pools = prefixes(subnet4+"0/24", n.prefix6+"/64")
	n.network.Gateways = []netip.Addr{netip.MustParseAddr(subnet4 + "1"), netip.MustParseAddr(n.prefix6 + "1")}
	n.network.Masquerade = append(n.network.Masquerade, prefixes(subnet4+"0/24")...)
	for _, c := range n.containers {
		n.network.Live = append(n.network.Live, c.addr4(n), c.addr6(n))
		n.network.Containers = append(n.network.Containers, firewall.Container{Port: c.port(), MAC: c.mac(n), Addresses: []netip.Addr{c.addr6(n), c.addr4(n)}})
	}
	s.config.Networks = append(s.config.Networks, n.network)
	// Until a link-local address is there, the host solicits nobody.
	ip(t, s.host, "link add "+bridge+" type bridge mcast_snooping 0", "addr add fe80::1/64 nodad dev "+bridge, "link set "+bridge+" up",
		"addr add "+subnet4+"1/24 dev "+bridge, "addr add "+n.prefix6+"1/64 nodad dev "+bridge)
	s.host.Sysctl(t, "net/ipv4/conf/"+bridge+"/route_localnet", "1") // as the engine sets it
	for _, c := range n.containers {
		h := testnet.New(t, c.name)
		s.c[c.name] = h
		port := c.port()
		testnet.Connect(t, s.host, port, h, "eth0")
		ip(t, s.host, "link set "+port+" master "+bridge,
			// With br_netfilter a connection that comes back by the host's
			// address is bridged, to the port it came from perhaps.
			"link set "+port+" type bridge_slave hairpin on")
		ip(t, h, "link set eth0 down", "link set eth0 address "+c.mac(n), "link set eth0 up", fmt.Sprintf("addr add %s/24 dev eth0", c.addr4(n)), fmt.Sprintf("addr add %s/64 dev eth0", c.addr6(n)),
			"route add default via "+subnet4+"1", "route add default via "+n.prefix6+"1")
		listen(t, h, "tcp", ":80")
		listen(t, h, "tcp", ":81")
		listen(t, h, "udp", ":53")
	}
}

// open makes the site's Firewall.
func (s *site) open(t testing.TB) kernel {
	t.Helper()
	return s.backend.open(t, s.host)
}

// ip runs ip(8) over lines of arguments, in one process: a site has some two hundred.
func ip(t testing.TB, h *testnet.Host, lines ...string) {
	t.Helper()
	cmd := h.Command(t.Context(), "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: ip %q: %v\n%s", h.Name(), lines, err, out)
	}
}

// listen serves, until the end of the test, the client's own address to whoever
// asks, and then an echo.
func listen(t testing.TB, h *testnet.Host, network, address string) {
	t.Helper()
	var wg sync.WaitGroup
	if network == "udp" {
		var conn net.PacketConn
		h.Do(t, func() {
			var err error
			if conn, err = net.ListenPacket(network, address); err != nil {
				t.Fatal(err)
			}
		})
		wg.Go(func() { serveUDP(conn) })
		t.Cleanup(func() { _ = conn.Close(); wg.Wait() })
		return
	}
	var listener net.Listener
	h.Do(t, func() {
		var err error
		if listener, err = net.Listen(network, address); err != nil {
			t.Fatal(err)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serveTCP(ctx, conn) })
		}
	})
	t.Cleanup(func() { cancel(); _ = listener.Close(); wg.Wait() })
}

func serveTCP(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintln(conn, addrOf(conn.RemoteAddr())); err != nil {
		return
	}
	_, _ = io.Copy(conn, conn)
}

func serveUDP(conn net.PacketConn) {
	var b [64]byte
	for {
		_, from, err := conn.ReadFrom(b[:])
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = conn.WriteTo([]byte(addrOf(from).String()+"\n"), from)
		}
	}
}

func addrOf(a net.Addr) netip.Addr {
	return netip.MustParseAddrPort(a.String()).Addr().Unmap()
}

// wantReached checks whether a call is answered.
func (s *site) wantReached(t testing.TB, from *testnet.Host, network, to string, want bool) {
	t.Helper()
	reach := call
	if want {
		reach = insist
	}
	seen, err := reach(t.Context(), from, network, to)
	if err != nil {
		t.Fatal(err)
	}
	if reached := seen != ""; reached != want {
		t.Errorf("%s from %s to %s reached: %v, want %v", network, from.Name(), to, reached, want)
	}
}

// patience is how long a packet that is dropped is waited for.
const patience = time.Second

// longest is for what must come about, on a machine that has other work, too: tables of
// iptables-legacy are looked at every half a minute, and three times as long as a look took
// goes by until the next one. With twenty-five processes for each processor one took 20 s.
const longest = 5 * time.Minute

// insist calls again while nobody answers, for calls that must be: on a busy
// machine an answer may take longer than patience. An error is an answer, too.
func insist(ctx context.Context, from *testnet.Host, network, address string) (seen string, err error) {
	for range 30 {
		if seen, err = call(ctx, from, network, address); seen != "" || err != nil {
			break
		}
	}
	return seen, err
}

// call asks a listener for the address it sees; empty: nobody answers.
func call(ctx context.Context, from *testnet.Host, network, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := from.DialContext(ctx, network, address)
	if err != nil {
		// No route to the host: a neighbour has not answered, which a busy one may not in time,
		// and does not where neighbor solicitations are dropped, too.
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, unix.EHOSTUNREACH) {
			return "", nil
		}
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if network == "udp" {
		_, err := conn.Write([]byte("?"))
		if errors.Is(err, unix.EINVAL) { // no room for a neighbour: all namespaces share net.ipv6.neigh.default.gc_thresh3
			return "", nil
		}
		if err != nil {
			return "", err
		}
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "", nil
	}
	return strings.TrimSpace(line), err
}

// way is what a host does or does not get through to.
type way struct {
	from        *testnet.Host
	network, to string
	reached     bool
}

// wantWays checks them beside somebody else's firewall, of which nothing is in the way
// of what is to pass.
func (s *site) wantWays(t *testing.T, when string, f *Firewall, ways []way) {
	t.Helper()
	for _, w := range ways {
		attempts := 1
		if w.reached {
			attempts = 10
		}
		if got := s.passes(t, w.from, w.network, w.to, attempts); got != w.reached {
			t.Errorf("%s: %s from %s to %s reached: %v, want %v", when, w.network, w.from.Name(), w.to, got, w.reached)
		}
	}
	if found, err := f.Obstacles(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("%s: obstacles %v, %v", when, found, err)
	}
}
