package link

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/spec"
)

// A router may be behind whatever is not a port itself, and behind a bridge
// that has a network card among its ports. Most of these kinds cannot be made
// on every kernel.
func TestMayHaveRouter(t *testing.T) {
	link := func(kind string, change func(*entry)) entry {
		e := entry{name: "link", index: 7, kind: kind}
		if change != nil {
			change(&e)
		}
		return e
	}
	port := func(kind string) entry { return link(kind, func(e *entry) { e.index, e.master = 8, 7 }) }
	bridge := link("bridge", nil)
	for name, tc := range map[string]struct {
		link entry
		port entry // another one, whose master may be link, or which may be link's
		want bool
	}{
		"network card":              {link: link("device", nil), want: true},
		"network card without IPv6": {link: link("device", func(e *entry) { e.flags = unix.IFF_UP }), want: true},
		"VLAN":                      {link: link("vlan", nil), want: true},
		"bond":                      {link: link("bond", nil), want: true},
		"tunnel":                    {link: link("wireguard", nil), want: true},
		"uplink of a container":     {link: link("veth", nil), want: true},
		"loopback":                  {link: link("device", func(e *entry) { e.flags = unix.IFF_LOOPBACK | unix.IFF_UP })},
		"port of a bridge":          {link: port("device")},
		"member of a VRF":           {link: port("device"), port: link("vrf", nil), want: true},
		"member of another VRF":     {link: port("device"), port: link("vrf", func(e *entry) { e.index = 9 })},
		"our bridge":                {link: link("bridge", func(e *entry) { e.alias = spec.NetworkAlias("a") }), port: port("device")},
		"our veth":                  {link: link("veth", func(e *entry) { e.alias = spec.EndpointAlias("e") })},
		"somebody's alias":          {link: link("device", func(e *entry) { e.alias = "to the provider" }), want: true},

		"bridge without ports":        {link: bridge},
		"bridge with a card":          {link: bridge, port: port("device"), want: true},
		"bridge with a VLAN":          {link: bridge, port: port("vlan"), want: true},
		"bridge with a bond":          {link: bridge, port: port("bond"), want: true},
		"bridge with a team":          {link: bridge, port: port("team"), want: true},
		"bridge with a container":     {link: bridge, port: port("veth")},
		"bridge with a VM":            {link: bridge, port: port("tun")},
		"bridge of an overlay":        {link: bridge, port: port("vxlan")},
		"bridge beside a card":        {link: bridge, port: link("device", func(e *entry) { e.index = 8 })},
		"bridge beside another's":     {link: bridge, port: link("device", func(e *entry) { e.index, e.master = 8, 9 })},
		"bridge that is another port": {link: link("bridge", func(e *entry) { e.master = 9 }), port: port("device")},
	} {
		all := []entry{tc.link}
		if tc.port.name != "" {
			all = append(all, tc.port)
		}
		if got := mayHaveRouter(tc.link, all); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}
