package spec

import (
	"net/netip"
	"strings"
	"testing"
)

// What options say together, and with the subnets.
func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name     string
		raw      map[string]string
		subnet   string
		internal bool
		refused  string // what the error must say; empty: accepted
	}{
		{name: "auto", subnet: "2001:db8::/80"},
		{name: "auto, internal", subnet: "2001:db8::/80", internal: true},
		{name: "on", raw: map[string]string{"ra": "on"}, subnet: "2001:db8::/80"},
		{name: "SLAAC", raw: map[string]string{"ra.autonomous": "on"}, subnet: "2001:db8::/64"},
		{name: "SLAAC without a /64", raw: map[string]string{"ra.autonomous": "on"}, subnet: "2001:db8::/80", refused: "/64"},
		{name: "off, refined", raw: map[string]string{"ra": "off", "ra.dns": "2001:db8::53"}, subnet: "2001:db8::/64", refused: "ra=off"},
		{name: "off, without upstream", raw: map[string]string{"ra": "off", "ra.upstream": "off"}, subnet: "2001:db8::/64", refused: "ra=off"},
		{name: "names that fill a packet", raw: map[string]string{"ra.search": search(5)}, subnet: "2001:db8::/64"},
		{name: "names that fit no packet", raw: map[string]string{"ra.search": search(6)}, subnet: "2001:db8::/64", refused: "at most 1024"},
		{name: "off, announced", raw: map[string]string{"ra": "off", "ra.announce": "on"}, subnet: "2001:db8::/64"},
		{name: "a way out of an internal network", raw: map[string]string{"ra": "on"}, subnet: "2001:db8::/64", internal: true, refused: "internal"},
		{name: "the same by its lifetime", raw: map[string]string{"ra.lifetime": "60"}, subnet: "2001:db8::/64", internal: true, refused: "internal"},
		{name: "a way into an internal network", raw: map[string]string{"ra.announce": "on"}, subnet: "2001:db8::/64", internal: true, refused: "ra.announce"},
		{name: "internal, open", raw: map[string]string{"inbound": "open"}, subnet: "2001:db8::/64", internal: true, refused: "inbound=open"},
		{name: "internal, masqueraded", raw: map[string]string{"masquerade": "on"}, subnet: "2001:db8::/64", internal: true, refused: "masquerade=on"},
		{name: "internal, masqueraded in Docker's words", raw: map[string]string{"com.docker.network.bridge.gateway_mode_ipv6": "nat"}, subnet: "2001:db8::/64", internal: true, refused: "gateway_mode_ipv6=nat"},
		{name: "translated", raw: map[string]string{"masquerade": "nptv6", "nptv6": "2001:db8::/64"}, subnet: "fd00:1::/64"},
		{name: "translated to another length", raw: map[string]string{"masquerade": "nptv6", "nptv6": "2001:db8::/48"}, subnet: "fd00:1::/64", refused: "/64"},
		{name: "translated, internal", raw: map[string]string{"masquerade": "nptv6", "nptv6": "2001:db8::/64"}, subnet: "fd00:1::/64", internal: true, refused: "nptv6"},
		{name: "translated, SLAAC", raw: map[string]string{"masquerade": "nptv6", "nptv6": "2001:db8::/64", "ra.autonomous": "on"}, subnet: "fd00:1::/64", refused: "ra.autonomous"},
		{name: "an address to leave under", raw: map[string]string{"com.docker.network.host_ipv6": "2001:db8::1"}, subnet: "fd00:1::/64"},
		{name: "an address to leave under that nobody leaves under", raw: map[string]string{"com.docker.network.host_ipv6": "2001:db8::1"}, subnet: "2001:db8:1::/64", refused: "host_ipv6"},
		{name: "the same in IPv4", raw: map[string]string{"com.docker.network.host_ipv4": "192.0.2.1"}, subnet: "2001:db8:1::/64", refused: "host_ipv4"},
		{name: "internal, unprotected", raw: map[string]string{"com.docker.network.bridge.gateway_mode_ipv4": "nat-unprotected"}, subnet: "2001:db8::/64", internal: true, refused: "nat-unprotected"},
		{name: "internal, isolated", raw: map[string]string{"com.docker.network.bridge.gateway_mode_ipv4": "isolated", "com.docker.network.bridge.gateway_mode_ipv6": "isolated"}, subnet: "2001:db8::/64", internal: true},
		{name: "isolated, with a router", raw: map[string]string{"com.docker.network.bridge.gateway_mode_ipv6": "isolated", "ra": "on"}, subnet: "2001:db8::/64", internal: true, refused: "ra"},
		{name: "isolated, not internal", raw: map[string]string{"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}, subnet: "2001:db8::/64", refused: "--internal"},
		{name: "internal, proxied", raw: map[string]string{"ndproxy": "on"}, subnet: "2001:db8::/64", internal: true, refused: "ndproxy=on"},
		{name: "internal, proxied as a whole", raw: map[string]string{"ndproxy": "prefix"}, subnet: "2001:db8::/64", internal: true, refused: "ndproxy=prefix"},
		{name: "internal, not isolated", raw: map[string]string{"isolate": "off"}, subnet: "2001:db8::/64", internal: true, refused: "isolate=off"},
		{name: "internal, and closed in every way", raw: map[string]string{"inbound": "none", "masquerade": "off", "ndproxy": "off", "isolate": "on"}, subnet: "2001:db8::/64", internal: true},
		{name: "the same on a network that is not internal", raw: map[string]string{"inbound": "open", "masquerade": "on", "ndproxy": "on", "isolate": "off"}, subnet: "2001:db8::/64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, err := ParseOptions(tc.raw)
			if err != nil {
				t.Fatal(err)
			}
			n := Network{ID: strings.Repeat("a", 64), Options: o, Internal: tc.internal, IPv6: []Subnet{{Prefix: netip.MustParsePrefix(tc.subnet)}}}
			switch err := n.Validate(); {
			case tc.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused)):
				t.Errorf("error %v does not say %q", err, tc.refused)
			}
		})
	}
}

// search is a list of n long names.
func search(n int) string {
	label := strings.Repeat("a", 61)
	name := strings.Join([]string{label, label, label}, ".")
	return strings.TrimSuffix(strings.Repeat(name+",", n), ",")
}
