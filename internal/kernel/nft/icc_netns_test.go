//go:build netns

package nft

import (
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

// enable_icc=off is the bridge's own isolation of ports, as the engine sets it, and
// the ruleset's. Containers do not see each other by any kind of packet, and keep
// what IPv6 needs of the host: neighbor discovery both ways, and its multicasts.
func TestContainersApart(t *testing.T) { eachKind(t, testContainersApart) }

func testContainersApart(t *testing.T, b backend) {
	s := b.site(t)
	const first, second, gateway = "2001:db8:4::2", "2001:db8:4::3", "2001:db8:4::1"
	neighbours := map[string]*testnet.Host{first: s.c["open2"], second: s.c["open3"]}
	fresh := func(h *testnet.Host, link string) {
		ip(t, h, "neigh flush dev "+link)
	}
	everybody := func(h *testnet.Host, link string) int {
		out, _ := h.Command(t.Context(), "ping", "-c", "2", "-i", "0.5", "-W", "1", "ff02::1%"+link).Output()
		answers := map[string]bool{}
		for line := range strings.Lines(string(out)) {
			if _, after, ok := strings.Cut(line, "bytes from "); ok {
				from, _, _ := strings.Cut(after, "%")
				answers[from] = true
			}
		}
		return len(answers)
	}
	if n := everybody(s.c["open2"], "eth0"); n < 3 { // itself, its neighbour, the host
		t.Fatalf("%d answers to a multicast before the containers are apart", n)
	}
	for _, port := range []string{"v6nvopen2", "v6nvopen3"} {
		ip(t, s.host, "link set "+port+" type bridge_slave isolated on")
	}
	bridgeNetfilter(t, s.host, "1")
	apply(t, s.open(t), s.config)
	for _, h := range neighbours {
		fresh(h, "eth0")
		s.wantReached(t, h, "tcp", "[2001:db8:4::1]:7070", true) // by solicitation of the gateway
		s.wantReached(t, h, "tcp", "["+outside6+"]:80", true)
		if n := everybody(h, "eth0"); n != 2 {
			t.Errorf("%s: %d answers to a multicast, want its own and the host's", h.Name(), n)
		}
	}
	fresh(s.host, "open")
	for addr := range neighbours {
		s.wantReached(t, s.host, "tcp", "["+addr+"]:81", true) // by solicitation of the container
		s.wantReached(t, s.outside, "tcp", "["+addr+"]:81", true)
	}
	if n := everybody(s.host, "open"); n != 3 {
		t.Errorf("%d answers to the host's multicast, want its own and both containers'", n)
	}
	for _, to := range []string{"[" + first + "]:81", "172.18.4.2:81"} {
		if seen, err := call(t.Context(), s.c["open3"], "tcp", to); err == nil && seen != "" {
			t.Errorf("a container reaches another at %s", to)
		}
	}
	// A translated port is for everybody, where the host routes what comes back to
	// the bridge. With br_netfilter the kernel bridges it, from port to isolated port.
	bridgeNetfilter(t, s.host, "0")
	s.wantReached(t, s.c["open3"], "tcp", host4+":8084", true)
}
