package engine_test

import (
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// What cannot be is refused when the network is made, and leaves nothing behind.
func TestParentRefusals(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options []string
		pool    spec.PoolRequest
		before  func(t *testing.T, h *host)
		says    []string
	}{
		{"no such parent", []string{"parent", "eth7"}, static("2001:db8:ff::/64"), nil, []string{"parent eth7 does not exist"}},
		{"no parent for the VLAN", []string{"parent", "eth7.5"}, static("2001:db8:ff::/64"), nil, []string{"eth7.5", "eth7 does not exist"}},
		{"no VLAN's name", []string{"parent", "eth0.5000"}, static("2001:db8:ff::/64"), nil, []string{"eth0.5000 does not exist", "VLANs are 1 to 4094", "5000"}},
		{"port of a bridge", nil, auto6(), func(_ *testing.T, h *host) {
			l := h.links["eth0"]
			l.Master = "br0"
			h.links["eth0"] = l
		}, []string{"eth0 is a port of br0", "parent=br0"}},
		{"wireless", []string{"parent", "wlan0"}, static("2001:db8:ff::/64"), func(_ *testing.T, h *host) { h.addLink("wlan0", fakeLink{Kind: "wireless", Up: true}) },
			[]string{"wlan0 is wireless", "mode=ipvlan"}},
		{"loopback", []string{"parent", "lo"}, static("2001:db8:ff::/64"), func(_ *testing.T, h *host) { h.addLink("lo", fakeLink{Kind: "loopback", Up: true}) }, []string{"lo is the loopback"}},
		{"tunnel", []string{"parent", "tun0"}, static("2001:db8:ff::/64"), func(_ *testing.T, h *host) { h.addLink("tun0", fakeLink{Kind: "tun", Up: true}) }, []string{"tun0 is not an Ethernet"}},
		{"no default route", nil, static("2001:db8:ff::/64"), func(_ *testing.T, h *host) { h.defaultParent = "" }, []string{"-o parent="}},
		{"MTU", []string{"com.docker.network.driver.mtu", "9000"}, auto6(), nil, []string{"9000", "up to 1500"}},
		{"a prefix that leads nowhere", nil, ula6(), nil, []string{"leads nowhere", "--subnet"}},
		{"a fallback that leads nowhere", nil, spec.PoolRequest{V6: true, Source: spec.SourceParent, Allocation: spec.Sequential, Fallback: spec.FallbackULA}, nil, []string{"fallback=ula", "leads nowhere on eth0", "fallback=none"}},
		{"no module", []string{"mode", "ipvlan"}, auto6(), func(_ *testing.T, h *host) { h.missing["ipvlan"] = true }, []string{"modprobe ipvlan"}},
		{"prefix of another parent", []string{"parent", "eth1"}, auto6(), nil, []string{"on eth0", "not on parent eth1", "--ipam-opt parent=eth1"}},
		{"whole on-link prefix in l3", []string{"mode", "ipvlan", "ipvlan_mode", "l3"}, static("2001:db8:1::/64"), nil, []string{"whole on-link prefix of eth0"}},
		{"the other kind on the parent", []string{"mode", "ipvlan"}, auto6(), beside("mode", "macvlan"), []string{"macvlan network a00000000020", "cannot share"}},
		{"another's ipvlan", []string{"mode", "ipvlan"}, auto6(), func(_ *testing.T, h *host) {
			h.addLink("theirs", fakeLink{Kind: "ipvlan", Parent: "eth0", Mode: "l3bridge"})
		}, []string{"eth0 has theirs"}},
		{"another ipvlan mode", []string{"mode", "ipvlan", "ipvlan_mode", "l3"}, auto6(), beside("mode", "ipvlan"), []string{"a00000000020", "ipvlan_mode=l2"}},
		{"another ipvlan flag", []string{"mode", "ipvlan", "ipvlan_flag", "private"}, auto6(), beside("mode", "ipvlan"), []string{"a00000000020", "ipvlan_flag=bridge"}},
		{"passthru beside", []string{"macvlan_mode", "passthru"}, auto6(), beside("mode", "macvlan"), []string{"a00000000020", "for itself"}},
		{"beside passthru", nil, auto6(), beside("mode", "macvlan", "macvlan_mode", "passthru"), []string{"a00000000020", "for itself"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			if tc.before != nil {
				tc.before(t, h)
			}
			before := h.snapshot()
			r := child(t, 1, append([]string{"mode", "macvlan"}, tc.options...)...)
			r.pools = []spec.PoolRequest{tc.pool}
			_, err := h.createNetwork(t.Context(), r)
			if err == nil {
				t.Fatal("was accepted")
			}
			for _, text := range tc.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q does not say %q", err, text)
				}
			}
			sameWorld(t, "after the refusal", before, h.snapshot())
		})
	}
}

// beside has a network there already.
func beside(options ...string) func(t *testing.T, h *host) {
	return func(t *testing.T, h *host) {
		_, err := h.createNetwork(t.Context(), child(t, 2, options...))
		must(t, err)
	}
}
