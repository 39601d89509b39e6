package engine_test

import (
	"net/netip"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// A container that has begun to hear of others before its link's event was handled is told
// of an address's new owner.
func TestToldOfANewOwnerThoughLate(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	n, err := h.createNetwork(ctx, recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/64")}})
	must(t, err)
	arrive := func(i int, addr, mac string) {
		leased, err := h.engine.RequestAddress(ctx, n.IPv6[0].Prefix.String(), netip.MustParseAddr(addr), false)
		must(t, err)
		_, err = h.engine.CreateEndpoint(ctx, spec.Endpoint{ID: epID(i), NetworkID: n.ID, IPv6: leased, MAC: mac})
		must(t, err)
		_, err = h.engine.Join(ctx, n.ID, epID(i), "/run/"+epID(i))
		must(t, err)
		h.moveIn(epID(i))
	}
	up := func(i int) { h.engine.LinkChanged(ctx, spec.VethName(epID(i)), true, false) }
	const a, b = "2001:db8:ff::a", "2001:db8:ff::b"
	arrive(2, b, "")
	up(2)
	arrive(1, a, "") // runs, and talks to b; its event waits
	must(t, h.stop(ctx, attachment{network: n.ID, id: epID(2), leases: map[string]netip.Addr{n.IPv6[0].Prefix.String(): netip.MustParseAddr(b)}}))
	up(1) // late
	arrive(3, b, "02:00:5e:10:00:01")
	up(3)
	if got := h.heard(t); len(got) != 1 {
		t.Errorf("announced %q, want container 1 told of %s", got, b)
	}
}
