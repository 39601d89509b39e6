package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// A call is between addresses, or containers that are written by their names.
func TestCallEnds(t *testing.T) {
	subnet := func(prefix, outside string) spec.Subnet {
		s := spec.Subnet{Prefix: netip.MustParsePrefix(prefix)}
		if outside != "" {
			s.Outside = netip.MustParsePrefix(outside)
		}
		return s
	}
	renumbered := func(prefix, now string) spec.Subnet {
		s := subnet(prefix, "")
		s.Lent = &spec.Lent{Prefixes: []spec.LentPrefix{{Prefix: netip.MustParsePrefix(now)}}}
		return s
	}
	endpoint := func(id, name string, addresses ...string) spec.Endpoint {
		ep := spec.Endpoint{ID: strings.Repeat(id, 64), Name: name, Container: strings.Repeat("c", 8) + name}
		for _, a := range addresses {
			if p := netip.MustParsePrefix(a); p.Addr().Is6() {
				ep.IPv6 = p
			} else {
				ep.IPv4 = p
			}
		}
		return ep
	}
	status := spec.Status{Networks: []spec.NetworkStatus{
		{Network: spec.Network{ID: strings.Repeat("1", 64), IPv6: []spec.Subnet{subnet("2001:db8:1::/64", "")}, IPv4: []spec.Subnet{subnet("172.18.1.0/24", "")}}, Endpoints: []spec.Endpoint{
			endpoint("a", "web", "2001:db8:1::2/64", "172.18.1.2/24"), endpoint("b", "both", "2001:db8:1::3/64", "172.18.1.3/24"),
		}},
		{Network: spec.Network{ID: strings.Repeat("2", 64), IPv6: []spec.Subnet{subnet("fd00:2::/64", "2001:db8:2::/64")}, IPv4: []spec.Subnet{subnet("172.18.2.0/24", "")}}, Endpoints: []spec.Endpoint{
			endpoint("d", "inner", "fd00:2::2/64", "172.18.2.2/24"), endpoint("e", "both", "fd00:2::3/64", "172.18.2.3/24"), endpoint("f", "four", "172.18.2.4/24"),
		}},
		{Network: spec.Network{ID: strings.Repeat("3", 64), IPv6: []spec.Subnet{renumbered("2001:db8:a3::/64", "2001:db8:b3::/64")}, IPv4: []spec.Subnet{subnet("172.18.3.0/24", "")}}, Endpoints: []spec.Endpoint{
			endpoint("7", "moved", "2001:db8:a3::2/64", "172.18.3.2/24"), endpoint("8", "twice", "2001:db8:a3::3/64", "172.18.3.3/24"),
		}},
		{Network: spec.Network{ID: strings.Repeat("4", 64), IPv6: []spec.Subnet{renumbered("2001:db8:a4::/64", "2001:db8:b4::/64")}}, Endpoints: []spec.Endpoint{
			endpoint("9", "twice", "2001:db8:a4::3/64"),
		}},
	}}
	outer, _ := status.Networks[1].Translation().Out(netip.MustParseAddr("fd00:2::2"))
	for _, tc := range []struct {
		from, to string
		want     string
		says     string // of an error
	}{
		{"2001:db8::9", "2001:db8:1::2", "2001:db8::9 2001:db8:1::2", ""},
		{"2001:db8::9", "web", "2001:db8::9 2001:db8:1::2", ""},
		{"192.0.2.9", "web", "192.0.2.9 172.18.1.2", ""},
		{"web", "192.0.2.9", "172.18.1.2 192.0.2.9", ""},
		{strings.Repeat("a", 6), "2001:db8::9", "2001:db8:1::2 2001:db8::9", ""},
		{"ccccccccweb", "2001:db8::9", "2001:db8:1::2 2001:db8::9", ""},
		{"web", "both", "2001:db8:1::2 2001:db8:1::3", ""},
		{"both", "inner", "fd00:2::3 fd00:2::2", ""},
		{"inner", "four", "172.18.2.2 172.18.2.4", ""},
		{"both", "172.18.1.2", "172.18.1.3 172.18.1.2", ""},
		{"web", "inner", "2001:db8:1::2 " + outer.String(), ""},
		{"2001:db8::9", "inner", "2001:db8::9 " + outer.String(), ""},
		{"2001:db8::9", "fd00:2::2", "2001:db8::9 fd00:2::2", ""},
		{"inner", "2001:db8::9", "fd00:2::2 2001:db8::9", ""},
		{"moved", "twice", "2001:db8:b3::2 2001:db8:b3::3", ""},
		{"2001:db8::9", "moved", "2001:db8::9 2001:db8:b3::2", ""},
		{"twice", "2001:db8:b4::9", "2001:db8:b4::3 2001:db8:b4::9", ""},
		{"twice", "2001:db8::9", "", "twice is on more than one network"},
		{"both", "2001:db8::9", "", "both is on more than one network"},
		{"2001:db8::9", "four", "", "2001:db8::9 and four have no addresses of one family"},
		{"nobody", "2001:db8::9", "", `"nobody" is no IP address, nor the name`},
		{"2001:db8::9", "", "", `"" is no IP address`},
	} {
		from, to, err := callEnds(status, tc.from, tc.to)
		switch {
		case tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)):
			t.Errorf("%s to %s: error %v does not say %q", tc.from, tc.to, err, tc.says)
		case tc.says == "" && (err != nil || from.String()+" "+to.String() != tc.want):
			t.Errorf("%s to %s: %s %s, %v, want %s", tc.from, tc.to, from, to, err, tc.want)
		}
	}
}
