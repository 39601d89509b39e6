//go:build netns

package route_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"testing"
)

func TestRouters(t *testing.T) {
	for name, c := range map[string]struct {
		setup string
		want  []string
	}{
		"none":                {"", nil},
		"both families":       {"addr add 192.0.2.2/24 dev eth0\nroute add default via 192.0.2.1\n-6 route add default via fe80::1 dev eth0", []string{"fe80::1", "192.0.2.1"}},
		"lowest metric first": {"-6 route add default via fe80::2 dev eth0 metric 200\n-6 route add default via fe80::1 dev eth0 proto ra metric 100", []string{"fe80::1", "fe80::2"}},
		"another link's":      {"-6 route add default via fe80::1 dev eth1", nil},
		"without next hop":    {"-6 route add default dev eth0", nil},
		"no default":          {"-6 route add 2001:db8:7::/48 via fe80::1 dev eth0", nil},
		"one of several":      {"-6 route add default nexthop via fe80::1 dev eth0 nexthop via fe80::2 dev eth1", []string{"fe80::1"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, self := host(t)
			script(t, self, c.setup)
			got, err := h.Routers(t.Context(), "eth0")
			var want []netip.Addr
			for _, a := range c.want {
				want = append(want, netip.MustParseAddr(a))
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%v (%v), want %v", got, err, want)
			}
		})
	}
	h, _ := host(t)
	if _, err := h.Routers(t.Context(), "eth9"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent link: %v", err)
	}
}
