//go:build netns

package route_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/kernel/route"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// The way to an address is the kernel's own answer, whether the link is a bridge included.
func TestWay(t *testing.T) {
	self := testnet.Self(t)
	for _, args := range []string{
		"link add way0 type veth peer name way1", "link set way0 up", "link set way1 up", "link add way2 type bridge", "link set way2 up",
		"addr add 192.0.2.1/24 dev way0", "addr add 2001:db8::1/64 nodad dev way0", "route add default via 192.0.2.9", "route add 172.17.0.0/16 dev way2",
		"route add unreachable 2001:db8:1::/64", "route add 2001:db8:1::5/128 dev way2", "route add blackhole 203.0.113.0/24",
	} {
		self.Run(t, append([]string{"ip"}, strings.Fields(args)...)...)
	}
	h, err := route.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	for to, want := range map[string]spec.Way{
		"198.51.100.1": {Link: "way0"}, "2001:db8::9": {Link: "way0"}, "172.17.0.2": {Link: "way2", Bridge: true}, "2001:db8:1::5": {Link: "way2", Bridge: true},
		"2001:db8:1::6": {}, "2001:db8:9::1": {}, "203.0.113.7": {},
	} {
		if got, err := h.Way(t.Context(), netip.MustParseAddr(to)); err != nil || got != want {
			t.Errorf("the way to %s is %+v, %v, want %+v", to, got, err, want)
		}
	}
}
