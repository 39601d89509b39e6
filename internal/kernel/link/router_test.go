package link

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/v6net/v6net/internal/spec"
)

// A router may be behind whatever is not a port itself, and behind a bridge
// that has a network card among its ports. Most of these kinds cannot be made
// on every kernel.
func TestMayHaveRouter(t *testing.T) {
	attrs := func(change func(*netlink.LinkAttrs)) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Name, a.Index = "link", 7
		if change != nil {
			change(&a)
		}
		return a
	}
	card := &netlink.Device{LinkAttrs: attrs(nil)}
	bridge := &netlink.Bridge{LinkAttrs: attrs(nil)}
	port := attrs(func(a *netlink.LinkAttrs) { a.Index, a.MasterIndex = 8, 7 })
	for name, tc := range map[string]struct {
		link netlink.Link
		port netlink.Link // another one, whose master may be link, or which may be link's
		want bool
	}{
		"network card":              {link: card, want: true},
		"network card without IPv6": {link: &netlink.Device{LinkAttrs: attrs(func(a *netlink.LinkAttrs) { a.Flags = net.FlagUp })}, want: true},
		"VLAN":                      {link: &netlink.Vlan{LinkAttrs: attrs(nil)}, want: true},
		"bond":                      {link: &netlink.Bond{LinkAttrs: attrs(nil)}, want: true},
		"tunnel":                    {link: &netlink.Wireguard{LinkAttrs: attrs(nil)}, want: true},
		"uplink of a container":     {link: &netlink.Veth{LinkAttrs: attrs(nil)}, want: true},
		"loopback":                  {link: &netlink.Device{LinkAttrs: attrs(func(a *netlink.LinkAttrs) { a.Flags = net.FlagLoopback | net.FlagUp })}},
		"port of a bridge":          {link: &netlink.Device{LinkAttrs: port}},
		"member of a VRF":           {link: &netlink.Device{LinkAttrs: port}, port: &netlink.Vrf{LinkAttrs: attrs(nil)}, want: true},
		"member of another VRF":     {link: &netlink.Device{LinkAttrs: port}, port: &netlink.Vrf{LinkAttrs: attrs(func(a *netlink.LinkAttrs) { a.Index = 9 })}},
		"our bridge":                {link: &netlink.Bridge{LinkAttrs: attrs(func(a *netlink.LinkAttrs) { a.Alias = spec.NetworkAlias("a") })}, port: &netlink.Device{LinkAttrs: port}},
		"our veth":                  {link: &netlink.Veth{LinkAttrs: attrs(func(a *netlink.LinkAttrs) { a.Alias = spec.EndpointAlias("e") })}},
		"somebody's alias":          {link: &netlink.Device{LinkAttrs: attrs(func(a *netlink.LinkAttrs) { a.Alias = "to the provider" })}, want: true},

		"bridge without ports":        {link: bridge},
		"bridge with a card":          {link: bridge, port: &netlink.Device{LinkAttrs: port}, want: true},
		"bridge with a VLAN":          {link: bridge, port: &netlink.Vlan{LinkAttrs: port}, want: true},
		"bridge with a bond":          {link: bridge, port: &netlink.Bond{LinkAttrs: port}, want: true},
		"bridge with a team":          {link: bridge, port: &netlink.GenericLink{LinkAttrs: port, LinkType: "team"}, want: true},
		"bridge with a container":     {link: bridge, port: &netlink.Veth{LinkAttrs: port}},
		"bridge with a VM":            {link: bridge, port: &netlink.Tuntap{LinkAttrs: port}},
		"bridge of an overlay":        {link: bridge, port: &netlink.Vxlan{LinkAttrs: port}},
		"bridge beside a card":        {link: bridge, port: &netlink.Device{LinkAttrs: attrs(func(a *netlink.LinkAttrs) { a.Index = 8 })}},
		"bridge beside another's":     {link: bridge, port: &netlink.Device{LinkAttrs: attrs(func(a *netlink.LinkAttrs) { a.Index, a.MasterIndex = 8, 9 })}},
		"bridge that is another port": {link: &netlink.Bridge{LinkAttrs: attrs(func(a *netlink.LinkAttrs) { a.MasterIndex = 9 })}, port: &netlink.Device{LinkAttrs: port}},
	} {
		all := []netlink.Link{tc.link}
		if tc.port != nil {
			all = append(all, tc.port)
		}
		if got := mayHaveRouter(tc.link, all); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}
