//go:build netns

package doctor_test

import (
	"net/netip"
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// onLink makes the scene's network one on a part of the parent's own prefix.
func (s *scene) onLink(prefix string) *spec.NetworkStatus {
	n := &s.status.Networks[0]
	n.IPv6 = []spec.Subnet{{Prefix: netip.MustParsePrefix(prefix), OnLink: true, Parent: "eth0", Source: spec.SourceParent}}
	return n
}

// A router that does not hear the neighbor advertisements for a container's address
// cannot answer it.
func TestOnLink(t *testing.T) {
	const address = "2001:db8::1:0:0:5"
	s := newScene(t)
	n := s.onLink("2001:db8:0:0:1::/80")
	s.finds(t, "on_link", doctor.Note, "no container has an address of 2001:db8:0:0:1::/80 yet")
	n.Endpoints = []spec.Endpoint{{ID: "e1", Joined: true, Sandbox: "/run/netns/none", IPv6: netip.MustParsePrefix(address + "/80")}}
	// As the NDP proxy does it.
	for key, value := range map[string]string{"conf/eth0/proxy_ndp": "1", "neigh/eth0/proxy_delay": "0"} {
		s.self.Sysctl(t, "net/ipv6/"+key, value)
	}
	s.self.Run(t, "ip", "-6", "neigh", "add", "proxy", address, "dev", "eth0")
	s.mended(t, "on_link")

	// A provider that lets through what it has given out itself.
	s.up.Run(t, "ip", "-6", "neigh", "flush", "dev", "lan0")
	s.up.Run(t, "nft", "add table ip6 provider; add chain ip6 provider input { type filter hook input priority 0; };"+
		"add rule ip6 provider input icmpv6 type nd-neighbor-advert @th,64,128 0x20010db8000000000001000000000005 drop")
	s.finds(t, "on_link", doctor.Problem, "network d0d0d0d0d0d0", "answers this host, and not "+address)
	s.up.Run(t, "nft", "delete", "table", "ip6", "provider")
	s.mended(t, "on_link")

	s.up.Sysctl(t, "net/ipv6/icmp/echo_ignore_all", "1")
	s.finds(t, "on_link", doctor.Note, "answers no echo request")
	n.Options.Masquerade = spec.SwitchOn // then nobody outside asks for it
	s.mended(t, "on_link")
}

// Containers of a macvlan have MAC addresses that the provider may not know.
func TestOnLinkMACFilter(t *testing.T) {
	const mac = "02:00:00:00:00:77"
	s := newScene(t)
	n := s.onLink("2001:db8::/64")
	n.Options.Mode, n.Bridge = spec.ModeMacvlan, ""
	container := testnet.New(t, "lan")
	s.self.Run(t, "ip", "link", "add", "link", "eth0", "name", "v6nx0", "address", mac, "type", "macvlan", "mode", "bridge")
	s.self.Run(t, "ip", "link", "set", "dev", "v6nx0", "alias", spec.EndpointAlias("e1"), "netns", container.Path())
	container.Run(t, "ip", "link", "set", "dev", "v6nx0", "name", "eth0", "up")
	container.AddAddress(t, "2001:db8::77/64", "eth0")
	n.Endpoints = []spec.Endpoint{{ID: "e1", Joined: true, Sandbox: container.Path(), IPv6: netip.MustParsePrefix("2001:db8::77/64")}}
	s.mended(t, "on_link")

	s.up.Run(t, "nft", "add table netdev provider; add chain netdev provider in { type filter hook ingress device lan0 priority 0; };"+
		"add rule netdev provider in ether saddr "+mac+" drop")
	s.finds(t, "on_link", doctor.Problem, "and not 2001:db8::77 of a container, which has a MAC address of its own")

	n.Endpoints[0].Sandbox = "/run/netns/gone"
	s.finds(t, "on_link", doctor.Note, "no container has an address")
}
