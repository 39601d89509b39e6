package engine_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/v6net/v6net/internal/spec"
)

func TestSysctls(t *testing.T) {
	type values map[string]string
	for _, tc := range []struct {
		name        string
		before      values // what the host has, other than the kernel's defaults
		recipe      recipe
		with, after values        // while the network is there, and when it is gone
		meanwhile   func(w *host) // what somebody does while it is there
		order, undo []string      // calls of create and of delete, in this order
	}{
		{name: "accept_ra before forwarding, and back in reverse", recipe: recipe{pools: []spec.PoolRequest{auto4(), ula6()}},
			with:  values{acceptRA0: "2", forwarding6: "1", forwarding4: "1", acceptRA1: "1"},
			after: values{acceptRA0: "1", forwarding6: "0", forwarding4: "0", acceptRA1: "1"},
			order: []string{"journal: put sysctl " + acceptRA0, "sysctl: set " + acceptRA0 + "=2",
				"journal: put sysctl " + forwarding6, "sysctl: set " + forwarding6 + "=1",
				"journal: put sysctl " + forwarding4, "sysctl: set " + forwarding4 + "=1"},
			undo: []string{"sysctl: set " + forwarding4 + "=0", "journal: delete sysctl " + forwarding4,
				"sysctl: set " + forwarding6 + "=0", "journal: delete sysctl " + forwarding6,
				"sysctl: set " + acceptRA0 + "=1", "journal: delete sysctl " + acceptRA0}},
		{name: "accept_ra=0 is somebody's decision", before: values{acceptRA0: "0"}, recipe: recipe{pools: []spec.PoolRequest{ula6()}},
			with: values{acceptRA0: "0", forwarding6: "1", forwarding4: "0"}, after: values{acceptRA0: "0", forwarding6: "0"}},
		{name: "a router stays one", before: values{forwarding6: "1", forwarding4: "1", acceptRA0: "2"}, recipe: recipe{pools: []spec.PoolRequest{auto4(), ula6()}},
			with: values{forwarding6: "1", forwarding4: "1", acceptRA0: "2"}, after: values{forwarding6: "1", forwarding4: "1", acceptRA0: "2"}},
		{name: "the parent too, though its route is static", recipe: recipe{pools: []spec.PoolRequest{ula6()}, options: func(o *spec.Options) { o.Parent = "eth1" }},
			with: values{acceptRA0: "2", acceptRA1: "2"}, after: values{acceptRA0: "1", acceptRA1: "1"}},
		{name: "an internal network needs none", recipe: recipe{pools: []spec.PoolRequest{auto4(), ula6()}, internal: true},
			with: values{acceptRA0: "1", forwarding6: "0", forwarding4: "0"}, after: values{acceptRA0: "1", forwarding6: "0", forwarding4: "0"}},
		{name: "not put back when somebody has changed it", recipe: recipe{pools: []spec.PoolRequest{auto4(), ula6()}},
			with:      values{acceptRA0: "2", forwarding6: "1", forwarding4: "1"},
			meanwhile: func(h *host) { h.set(acceptRA0, "0"); h.set(forwarding4, "0") },
			after:     values{acceptRA0: "0", forwarding6: "0", forwarding4: "0"}},
		{name: "a parent that is gone for good is forgotten", recipe: recipe{pools: []spec.PoolRequest{ula6()}},
			meanwhile: func(h *host) { h.remove("eth0"); h.raLinks = nil },
			after:     values{forwarding6: "0"}},
		{name: "an advertised route that vanishes does not take accept_ra back", recipe: recipe{pools: []spec.PoolRequest{ula6()}},
			meanwhile: func(h *host) {
				h.raLinks, h.defaultParent = nil, ""
				h.engine.RoutesChanged(t.Context())
				if h.sysctls[acceptRA0] != "2" {
					t.Errorf("accept_ra is %s without an advertised route: it could not come back while the host forwards", h.sysctls[acceptRA0])
				}
			},
			after: values{acceptRA0: "1", forwarding6: "0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			for key, value := range tc.before {
				h.set(key, value)
			}
			h.raLinks, h.defaultParent = []string{"eth0"}, "eth0"
			pristine := h.snapshot()
			check := func(when string, want values) {
				t.Helper()
				got := values{}
				for key := range want {
					got[key] = h.sysctls[key]
				}
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", when, diff)
				}
			}
			tc.recipe.id = netID(1)
			n, err := h.createNetwork(t.Context(), tc.recipe)
			must(t, err)
			if !h.calledInOrder(tc.order...) {
				t.Errorf("calls %q, want in this order %q", h.calls, tc.order)
			}
			check("with the network", tc.with)
			if h.defaultParent == "" {
				t.Error("the host lost its default route")
			}
			h.consistent(t, "with the network")
			if tc.meanwhile != nil {
				tc.meanwhile(h)
			}
			h.disarm()
			must(t, h.deleteNetwork(t.Context(), n))
			if !h.calledInOrder(tc.undo...) {
				t.Errorf("calls %q, want in this order %q", h.calls, tc.undo)
			}
			check("with no network left", tc.after)
			if tc.meanwhile == nil {
				sameWorld(t, "with no network left", pristine, h.snapshot())
			}
			if len(h.journal.(fakeJournal).world.journal) > 0 {
				t.Errorf("journal %v, want it empty", h.world.journal)
			}
		})
	}
}

// The order does not come from the links' names.
func TestForwardingGoesBackBeforeAcceptRA(t *testing.T) {
	h := newHost(t)
	h.addLink("a0", fakeLink{Kind: "device", MTU: 1500, Up: true})
	h.raLinks = []string{"a0"}
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{ula6()}})
	must(t, err)
	const acceptRA = "net/ipv6/conf/a0/accept_ra"
	if !h.calledInOrder("sysctl: set "+acceptRA+"=2", "sysctl: set "+forwarding6+"=1") {
		t.Errorf("calls %q: forwarding was turned on before accept_ra=2", h.calls)
	}
	h.disarm()
	must(t, h.deleteNetwork(t.Context(), n))
	if !h.calledInOrder("sysctl: set "+forwarding6+"=0", "sysctl: set "+acceptRA+"=1") {
		t.Errorf("calls %q: accept_ra was put back while the host still forwarded", h.calls)
	}
}

// Sysctls go back with the last network that needs them, not before.
func TestSysctlsOfTwoNetworks(t *testing.T) {
	h := newHost(t)
	first, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	second, err := h.createNetwork(t.Context(), recipe{id: netID(2), pools: []spec.PoolRequest{ula6()}})
	must(t, err)
	must(t, h.deleteNetwork(t.Context(), first))
	if h.sysctls[forwarding4] != "0" || h.sysctls[forwarding6] != "1" || h.sysctls[acceptRA0] != "2" {
		t.Errorf("sysctls %v: the IPv6 network that is left needs forwarding6 and accept_ra, and nobody forwarding4", h.sysctls)
	}
	must(t, h.deleteNetwork(t.Context(), second))
	if h.sysctls[forwarding6] != "0" || h.sysctls[acceptRA0] != "1" {
		t.Errorf("sysctls %v after the last network", h.sysctls)
	}
}
