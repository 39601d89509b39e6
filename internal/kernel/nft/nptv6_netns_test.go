//go:build netns

package nft

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// outsideOf is what an address of network 10 is outside.
func outsideOf(t testing.TB, inside string) string {
	t.Helper()
	out, ok := siteTranslation.Out(netip.MustParseAddr(inside))
	if !ok {
		t.Fatalf("%s has no address outside", inside)
	}
	return out.String()
}

// Errors come to those whom they concern, about packets that they know: the
// sockets of both sides, whose kernels compare what the error is about.
func TestTranslatedErrors(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	policyDrop(t, s.host)
	apply(t, open(t, s.host), s.config)
	inner, outer := outsideOf(t, "fd00:a::2"), outsideOf(t, "fd00:a::3")

	refused := func(from *testnet.Host, to string) {
		t.Helper()
		conn, err := from.DialContext(t.Context(), "udp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		for range 20 {
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err = conn.Write([]byte("?")); err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			if errors.Is(err, unix.ECONNREFUSED) {
				return
			}
			if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
				break
			}
		}
		t.Errorf("port unreachable to %s from %s: %v, want connection refused", from.Name(), to, err)
	}
	refused(s.c["npt2"], "["+outside6+"]:99") // in
	refused(s.outside, "["+inner+"]:54")      // out
	refused(s.c["npt3"], "["+inner+"]:54")    // both

	// Time exceeded by the host itself, about a packet that it has translated.
	for _, tc := range []struct {
		from *testnet.Host
		to   string
	}{{s.outside, outer}, {s.c["npt2"], outside6}} {
		out, _ := tc.from.Command(t.Context(), "ping", "-c", "2", "-i", "0.3", "-W", "2", "-t", "1", tc.to).Output()
		if !strings.Contains(string(out), "Time exceeded") {
			t.Errorf("no hop on the way from %s to %s:\n%s", tc.from.Name(), tc.to, out)
		}
	}

	// A narrow link behind the outside, of which a container learns by an error
	// about its translated packet.
	far := testnet.New(t, "far")
	testnet.Connect(t, s.outside, "wan0", far, "eth0")
	s.outside.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	ip(t, s.outside, "link set wan0 mtu 1300", "addr add 2001:db8:f::1/64 nodad dev wan0")
	ip(t, far, "link set eth0 mtu 1300", "addr add 2001:db8:f::2/64 nodad dev eth0", "route add default via 2001:db8:f::1")
	ip(t, s.host, "route add 2001:db8:f::/64 via "+outside6)
	for _, h := range []*testnet.Host{s.outside, s.host, s.c["npt2"]} {
		if out, err := h.Command(t.Context(), "ping", "-c", "1", "-W", "2", "2001:db8:f::2").CombinedOutput(); err != nil {
			t.Errorf("%s does not reach the far end: %s", h.Name(), out)
		}
	}
	if out, _ := s.c["npt2"].Command(t.Context(), "ping", "-c", "1", "-W", "2", "-s", "1400", "2001:db8:f::2").Output(); !strings.Contains(string(out), "Packet too big: mtu=1300") {
		t.Errorf("the container is told nothing of the narrow link:\n%s", out)
	}
	if route := s.c["npt2"].Run(t, "ip", "-6", "route", "get", "2001:db8:f::2"); !strings.Contains(route, "mtu 1300") {
		t.Errorf("the container does not know the path's MTU: %s", route)
	}
}

// No state: connections live on when the host has forgotten them, and packets of
// nobody's leave under no address.
func TestTranslationHasNoState(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	apply(t, open(t, s.host), s.config)
	conn, err := s.outside.DialContext(t.Context(), "tcp", "["+outsideOf(t, "fd00:a::2")+"]:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for i := range 3 {
		if err := echo(conn, strings.Repeat("x", i+1)+"\n"); err != nil {
			t.Fatalf("echo %d: %v", i, err)
		}
		s.host.Run(t, "conntrack", "-F")
	}
	s.config.Networks[len(s.config.Networks)-1].AnySource = true
	apply(t, open(t, s.host), s.config)
	ip(t, s.c["npt2"], "addr add fd00:a::77/64 nodad dev eth0")
	got := count(t, s.outside, "["+outside6+"]:5000")
	send(t, s.c["npt2"], "[fd00:a::77]:0", "["+outside6+"]:5000")
	send(t, s.c["npt2"], "[fd00:a::2]:0", "["+outside6+"]:5000") // comes last
	if !eventually(func() bool { return got.Load() > 0 }) {
		t.Fatal("nothing comes")
	}
	time.Sleep(50 * time.Millisecond)
	if n := got.Load(); n != 1 {
		t.Errorf("%d datagrams of an address that is nobody's have left", n-1)
	}
}

// Errors between two networks that are both translated: those of the container that is
// called, and the host's own about what it cannot forward, are about the packet as the
// caller has sent it. The kernel compares, and remembers the path's MTU by it.
func TestErrorsBetweenTranslatedNetworks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	policyDrop(t, s.host)
	second := spec.Translation{Inside: netip.MustParsePrefix("fd00:b::/64"), Outside: netip.MustParsePrefix("2001:db8:b::/64")}
	s.add(t, siteNetwork{
		firewall.Network{ID: "555555555555", Bridge: "npt11", ICC: true, Isolate: true, Inbound: spec.InboundPublished, Translations: []spec.Translation{second},
			Published: []firewall.Published{
				{Protocol: "udp", Container: netip.MustParseAddr("fd00:b::2"), Port: 53},
				{Protocol: "udp", Container: netip.MustParseAddr("fd00:b::2"), Port: 54}}},
		11, "fd00:b::", []container{{"eleven2", 2}},
	})
	called, _ := second.Out(netip.MustParseAddr("fd00:b::2"))
	caller, callee := s.c["npt2"], s.c["eleven2"]
	apply(t, open(t, s.host), s.config)
	s.wantReached(t, caller, "udp", "["+called.String()+"]:53", true)

	// Of the container: port unreachable.
	conn, err := caller.DialContext(t.Context(), "udp", "["+called.String()+"]:54")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	refused := func() bool {
		_ = conn.SetDeadline(time.Now().Add(patience / 10))
		if _, err = conn.Write([]byte("?")); err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		return errors.Is(err, unix.ECONNREFUSED)
	}
	if !eventually(refused) {
		t.Errorf("port unreachable: %v, want connection refused", err)
	}
	// Of the host: time exceeded and packet too big.
	if out, _ := caller.Command(t.Context(), "ping", "-c", "2", "-i", "0.3", "-W", "2", "-t", "1", called.String()).Output(); !strings.Contains(string(out), "Time exceeded") {
		t.Errorf("no hop on the way:\n%s", out)
	}
	ip(t, callee, "link set eth0 mtu 1300")
	ip(t, s.host, "link set "+spec.VethPrefix+"eleven2 mtu 1300", "link set npt11 mtu 1300")
	if out, _ := caller.Command(t.Context(), "ping", "-c", "1", "-W", "2", "-s", "1400", called.String()).Output(); !strings.Contains(string(out), "Packet too big: mtu=1300") {
		t.Errorf("the caller is told nothing of the narrow link:\n%s", out)
	}
	if route := caller.Run(t, "ip", "-6", "route", "get", called.String()); !strings.Contains(route, "mtu 1300") {
		t.Errorf("the caller does not know the path's MTU: %s", route)
	}
	large, err := caller.DialContext(t.Context(), "udp", "["+called.String()+"]:53")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = large.Close() }()
	answered := func() bool {
		_ = large.SetDeadline(time.Now().Add(patience / 4))
		if _, err = large.Write(make([]byte, 1400)); err == nil {
			_, err = large.Read(make([]byte, 64))
		}
		return err == nil
	}
	if !eventually(answered) {
		t.Errorf("what is larger than the path's MTU does not get there, in fragments: %v", err)
	}
}
