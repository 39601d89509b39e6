package engine_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// A container sends from its own addresses and from the network's auxiliary ones;
// with antispoof=off, and of another network, from any.
func TestSenders(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	for i, free := range []bool{false, true} {
		n := spec.Network{ID: netID(i + 1), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{
			Prefix: pfx([]string{"fd00:1::/64", "fd00:2::/64"}[i]), Aux: []netip.Addr{ip([]string{"fd00:1::99", "fd00:2::99"}[i])}}}}
		n.Options.AnySource = free
		must(t, h.engine.CreateNetwork(ctx, n))
		ep, err := h.engine.CreateEndpoint(ctx, spec.Endpoint{ID: epID(i + 1), NetworkID: n.ID, MAC: "02:00:00:00:00:05", IPv6: pfx([]string{"fd00:1::5/64", "fd00:2::5/64"}[i])})
		must(t, err)
		if ep.MAC != "02:00:00:00:00:05" {
			t.Fatalf("MAC address %s", ep.MAC)
		}
	}
	first, second := `"`+spec.VethName(epID(1))+`"`, `"`+spec.VethName(epID(2))+`"`
	for set, want := range map[string]string{
		"senders":   first + " . 02:00:00:00:00:05",
		"sources6":  first + " . fd00:1::5 " + first + " . fd00:1::99 " + first + " . fe80::ff:fe00:5",
		"claimed6":  first + " . fd00:1::5 " + first + " . fd00:1::99 " + first + " . fe80::ff:fe00:5",
		"unguarded": second,
	} {
		if got := h.elements(set); got != want {
			t.Errorf("%s: %s, want %s", set, got, want)
		}
	}
	must(t, h.engine.DeleteEndpoint(ctx, netID(1), epID(1)))
	must(t, h.engine.DeleteEndpoint(ctx, netID(2), epID(2)))
	if left := strings.TrimSpace(h.elements("senders") + h.elements("sources6") + h.elements("claimed6") + h.elements("unguarded")); left != "" {
		t.Errorf("with the containers gone: %s", left)
	}
}
