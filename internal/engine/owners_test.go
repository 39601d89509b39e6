package engine_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// arrive is a container that gets an address on a network, and moves in; its link's event is
// yet to be heard.
func (h *host) arrive(t *testing.T, n spec.Network, i int, addr, mac string) {
	t.Helper()
	leased, err := h.engine.RequestAddress(t.Context(), n.IPv6[0].Prefix.String(), netip.MustParseAddr(addr), false)
	must(t, err)
	_, err = h.engine.CreateEndpoint(t.Context(), spec.Endpoint{ID: epID(i), NetworkID: n.ID, IPv6: leased, MAC: mac})
	must(t, err)
	_, err = h.engine.Join(t.Context(), n.ID, epID(i), "/run/"+epID(i))
	must(t, err)
	h.moveIn(epID(i))
}

// Told are those who may remember somebody else at an address, and nobody is of one that nobody had.
func TestAnnouncedToWhoMayRemember(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	n, err := h.createNetwork(ctx, recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/64")}})
	must(t, err)
	arrive := func(i int, addr, mac string) {
		t.Helper()
		h.arrive(t, n, i, addr, mac)
		h.engine.LinkChanged(ctx, spec.VethName(epID(i)), true, false)
	}
	leave := func(i int, addr string) {
		t.Helper()
		must(t, h.stop(ctx, attachment{network: n.ID, id: epID(i), leases: map[string]netip.Addr{n.IPv6[0].Prefix.String(): netip.MustParseAddr(addr)}}))
	}
	told := func(what string, want ...string) {
		t.Helper()
		if got := h.heard(t); !slices.Equal(got, want) {
			t.Errorf("%s: announced %q, want %q", what, got, want)
		}
	}
	const a, b, c = "2001:db8:ff::a", "2001:db8:ff::b", "2001:db8:ff::c"
	arrive(1, a, "")
	arrive(2, b, "")
	told("addresses that were nobody's")
	leave(2, b)
	arrive(3, c, "")
	arrive(4, b, "02:00:5e:10:00:01")
	told("another owner: the one who was there alone", b+" → ["+spec.VethName(epID(1))+"]")
	leave(4, b)
	arrive(5, b, "02:00:5e:10:00:01")
	told("at the same MAC address as before")
	h.restart(t)
	arrive(6, "2001:db8:ff::d", "")
	told("what was before a restart is not known", "2001:db8:ff::d → ["+strings.Join([]string{spec.VethName(epID(1)), spec.VethName(epID(3)), spec.VethName(epID(5))}, " ")+"]")
}

// A container that has begun to hear of others before its link's event was handled is told
// of an address's new owner.
func TestToldOfANewOwnerThoughLate(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	n, err := h.createNetwork(ctx, recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/64")}})
	must(t, err)
	arrive := func(i int, addr, mac string) { h.arrive(t, n, i, addr, mac) }
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
