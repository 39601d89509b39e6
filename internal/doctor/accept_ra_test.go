package doctor

import "testing"

// The kernel (ipv6_accept_ra) asks for the link's own forwarding, not for that of all.
func TestAcceptRAIsTheLinks(t *testing.T) {
	for _, tc := range []struct {
		all, link string
		found     bool
	}{{"1", "1", true}, {"1", "0", false}, {"0", "1", true}, {"0", "0", false}} {
		f := Facts{Defaults: []Default{{Link: "eth0", RA: true, Usable: true}}, Links: []Link{{Name: "eth0", Up: true, Carrier: true, MTU: 1500, MayRouter: true}},
			Sysctls: map[string]string{forwarding6: tc.all, confKey("eth0", "forwarding"): tc.link, confKey("eth0", "accept_ra"): "1"}}
		if got := len((acceptRA{}).Judge(f)) > 0; got != tc.found {
			t.Errorf("all forwards %s, the link %s: found %t, want %t", tc.all, tc.link, got, tc.found)
		}
	}
}
