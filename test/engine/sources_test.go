//go:build engine

package engine_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
)

// routed is a prefix that the lab's router sends to the host, if told to.
const routed = "2001:db8:2::/48"

// route tells the router where a prefix is, until the end of the test.
func (l *lab) route(t *testing.T, prefix string) {
	t.Helper()
	l.up.Run(t, "ip", "route", "add", prefix, "via", hostIPv6)
	t.Cleanup(func() {
		if out, err := l.up.Command(context.Background(), "ip", "route", "del", prefix).CombinedOutput(); err != nil {
			t.Errorf("remove route to %s: %v: %s", prefix, err, out)
		}
	})
}

// Every source of a prefix gives containers that are reached from outside, and
// that reach out under the address that they should.
func testSources(t *testing.T, l *lab) {
	serveClientAddress(t, l.far)
	l.route(t, routed)
	for _, tc := range []struct {
		name   string
		create []string
		source string // what v6net says of it
		prefix string // the network's is a part of it
		bits   int
		direct bool // reached by its own address, and seen outside under it
	}{
		{"static, routed", []string{"--subnet", "2001:db8:2:1::/64"}, "static", "2001:db8:2:1::/64", 64, true},
		{"static, on the link", []string{"--subnet", "2001:db8:1:0:77::/80"}, "static", "2001:db8:1:0:77::/80", 80, true},
		{"parent", []string{"--ipam-opt", "source=parent", "--ipam-opt", "prefix_length=112"}, "parent", linkPrefix, 112, true},
		{"ula", []string{"--ipam-opt", "source=ula"}, "ula", "fd00::/8", 64, false},
		{"masquerade", []string{"--subnet", "2001:db8:2:2::/64", "-o", "masquerade=on"}, "static", "2001:db8:2:2::/64", 64, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l.network(t, "net", tc.create...)
			l.container(t, "web", "--network", "net", "-p", "8080:80")
			address := l.ipv6(t, "web", "net")

			subnet := l.subnet(t, "net")
			if string(subnet.Source) != tc.source || subnet.Prefix.Bits() != tc.bits || !netip.MustParsePrefix(tc.prefix).Contains(subnet.Prefix.Addr()) {
				t.Errorf("prefix is %s from source %s, want a /%d of %s from %s", subnet.Prefix, subnet.Source, tc.bits, tc.prefix, tc.source)
			}
			seen := address
			if tc.direct {
				mustFetch(t, l.far, bracket(address))
				mustNotFetch(t, l.far, bracket(hostIPv6)+":8080")
			} else {
				seen = hostIPv6
				mustFetch(t, l.far, bracket(hostIPv6)+":8080")
				mustFetch(t, l.host, bracket(hostIPv6)+":8080")
				if _, err := l.fetchIn(t, "web", bracket(hostIPv6)+":8080"); err != nil {
					t.Errorf("by the host's address (hairpin): %v", err)
				}
				l.route(t, subnet.Prefix.String())
				mustNotFetch(t, l.far, bracket(address))
			}
			if got, err := l.fetchIn(t, "web", bracket(farIPv6)); err != nil || got != seen {
				t.Errorf("far sees the client %q (%v), want %s", got, err, seen)
			}
		})
	}
	t.Run("random", func(t *testing.T) { testRandomAllocation(t, l) })
	t.Run("no global prefix", func(t *testing.T) { testNoGlobalPrefix(t, l) })
}

func testRandomAllocation(t *testing.T, l *lab) {
	l.network(t, "net", "--ipam-opt", "allocation=random", "--ipam-opt", "source=ula")
	for _, name := range []string{"one", "two"} {
		l.container(t, name, "--network", "net")
		if address := netip.MustParseAddr(l.ipv6(t, name, "net")).As16(); address[8]|address[9]|address[10]|address[11] == 0 {
			t.Errorf("%s got %s, which is not random", name, netip.AddrFrom16(address))
		}
	}
}

// A host without a global prefix gets a unique local one, and is told why.
func testNoGlobalPrefix(t *testing.T, l *lab) {
	l.host.Run(t, "ip", "address", "del", hostIPv6+"/64", "dev", "eth0")
	defer l.host.AddAddress(t, hostIPv6+"/64", "eth0")
	l.network(t, "net")
	subnet := l.subnet(t, "net")
	if subnet.Source != "ula" || !strings.Contains(subnet.Reason, "no global prefix on eth0") {
		t.Errorf("prefix is %s from source %s (%s), want a unique local one since there is no global prefix", subnet.Prefix, subnet.Source, subnet.Reason)
	}
}
