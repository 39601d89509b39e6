package engine_test

import (
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// A parent takes the links of running containers along. They cannot be given
// back from outside, but nobody is left to find that out alone.
func TestParentIsDeleted(t *testing.T) {
	for _, tc := range []struct {
		name, parent string
		options      []string
	}{
		{"device", "eth0", []string{"mode", "macvlan"}},
		{"ipvlan l3", "eth0", []string{"mode", "ipvlan", "ipvlan_mode", "l3", "ndproxy", "on"}},
		{"VLAN that is made again", "eth0.50", []string{"mode", "macvlan"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.onLink["eth0.50"] = nil
			r := child(t, 1, append(tc.options, "parent", tc.parent)...)
			r.pools = []spec.PoolRequest{static("2001:db8:ff::/64")}
			n, err := h.createNetwork(t.Context(), r)
			must(t, err)
			a := &attachment{id: epID(1)}
			must(t, h.run(t.Context(), n, a))
			h.remove(tc.parent)
			h.engine.LinkChanged(t.Context(), tc.parent, false, true)
			shown := func() string { return strings.Join(h.errors(t), "\n") }
			if got := shown(); !strings.Contains(got, spec.ShortID(a.id)) || !strings.Contains(got, "restart the container") || !strings.Contains(got, tc.parent) {
				t.Errorf("degraded: %q, want the endpoint that lost its link with %s", got, tc.parent)
			}
			if len(h.proxied) > 0 {
				t.Errorf("still answered for: %v", h.proxied)
			}
			h.addLink("eth0", fakeLink{Kind: "device", MTU: 1500, Up: true})
			h.engine.LinkChanged(t.Context(), "eth0", true, false)
			h.soon(t)
			if got := shown(); !strings.Contains(got, "restart the container") || len(h.proxied) > 0 {
				t.Errorf("degraded when the parent is back: %q, answered for: %v", got, h.proxied)
			}
			must(t, h.stop(t.Context(), *a))
			must(t, h.run(t.Context(), n, &attachment{id: epID(2)}))
			if got := shown(); got != "" {
				t.Errorf("degraded with a new container: %q", got)
			}
		})
	}
}

// A parent that moves to another namespace leaves the containers' links alone.
func TestParentIsMovedAway(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), child(t, 1, "mode", "macvlan"))
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	delete(h.links, "eth0")
	h.engine.LinkChanged(t.Context(), "eth0", false, true)
	if got := strings.Join(h.errors(t), "\n"); strings.Contains(got, "restart the container") {
		t.Errorf("degraded: %q, and the container has its link", got)
	}
}

// Between Leave and DeleteEndpoint a link is still in the container: it is the
// one to remove, and none is made beside it.
func TestLeftButNotDeleted(t *testing.T) {
	for _, known := range []bool{true, false} {
		h := newHost(t)
		n, err := h.createNetwork(t.Context(), child(t, 1, "mode", "macvlan"))
		must(t, err)
		a := &attachment{id: epID(1)}
		must(t, h.run(t.Context(), n, a))
		must(t, h.engine.Leave(t.Context(), n.ID, a.id))
		if known {
			h.engine.Resync(t.Context())
			h.restart(t)
			if got := h.aliases(); len(got) > 0 {
				t.Errorf("made a second link: %v", got)
			}
			must(t, h.engine.DeleteEndpoint(t.Context(), n.ID, a.id))
		} else { // its record was lost
			delete(h.world.journal, "network "+n.ID)
			h.restart(t)
		}
		if len(h.elsewhere) > 0 || len(h.aliases()) > 0 {
			t.Errorf("network known %t: left in the container %v, on the host %v", known, h.elsewhere, h.aliases())
		}
	}
}
