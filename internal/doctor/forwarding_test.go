package doctor_test

import (
	"net/netip"
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/spec"
)

// --fix turns forwarding on behind v6net's rules alone. Of those by iptables-legacy, which nftables
// does not show, the daemon tells.
func TestForwardingIsMendedBehindRules(t *testing.T) {
	for name, tc := range map[string]struct {
		seen     bool
		firewall string
		err      string
		mends    bool
	}{
		"nftables":                        {true, "nftables", "", true},
		"nftables, and somebody took it":  {false, "nftables", "", false},
		"iptables-legacy":                 {false, "iptables-legacy", "", true},
		"iptables-legacy, which has none": {false, "iptables-legacy", "firewall: ip6tables-restore fails", false},
	} {
		f := doctor.Facts{
			Status: &spec.Status{Firewall: tc.firewall, Error: tc.err, Networks: []spec.NetworkStatus{{
				Network: spec.Network{ID: "aaaa", Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: netip.MustParsePrefix("2001:db8::/64")}}}, Parent: "eth0",
			}}},
			Firewall: doctor.Firewall{Ours: tc.seen},
			Sysctls:  map[string]string{"net/ipv6/conf/all/forwarding": "0"},
		}
		found := 0
		for _, finding := range doctor.Examine(f) {
			if finding.Check != "forwarding" {
				continue
			}
			if found++; (finding.Settings != nil) != tc.mends {
				t.Errorf("%s: --fix sets %v, want something %t", name, finding.Settings, tc.mends)
			}
		}
		if found != 1 {
			t.Errorf("%s: %d findings, want one", name, found)
		}
	}
}
