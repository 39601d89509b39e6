//go:build netns

package nft

import (
	"testing"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/testnet"
)

// A network that is closed, since its options contradict themselves, is for nobody: neither its
// containers, its published ports, nor its name server, which others never reach.
func TestClosedNetwork(t *testing.T) { eachKind(t, testClosedNetwork) }

func testClosedNetwork(t *testing.T, b backend) {
	s := b.site(t)
	for i := range s.config.Networks {
		if n := &s.config.Networks[i]; n.Bridge == "web" {
			n.Containers = append(n.Containers, firewall.Container{Port: "eth7"})
		}
	}
	sound, faults := s.config.Sound()
	if len(faults) != 1 || !faults[0].Closed {
		t.Fatalf("faults %v, want one that closes web", faults)
	}
	apply(t, s.open(t), sound)
	for _, tc := range []struct {
		from        *testnet.Host
		network, to string
		reached     bool
	}{
		{s.outside, "tcp", "[2001:db8:1::2]:80", false},
		{s.outside, "udp", "[2001:db8:1::1]:53", false},
		{s.outside, "udp", "172.18.1.1:53", false},
		{s.c["ula2"], "udp", "[2001:db8:1::1]:53", false},
		{s.c["ula2"], "tcp", "[2001:db8:1::2]:80", false},
		{s.c["web2"], "tcp", "[2001:db8::9]:80", false},
		{s.outside, "tcp", "[2001:db8:4::2]:80", true}, // another network
	} {
		s.wantReached(t, tc.from, tc.network, tc.to, tc.reached)
	}
}
