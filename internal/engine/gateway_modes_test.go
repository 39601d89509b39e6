package engine_test

import (
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// An isolated network has no address of the host's, and hears nothing from it; the
// gateway's address stays reserved.
func TestIsolatedFromTheHost(t *testing.T) {
	h := newHost(t)
	r := dual(1)
	r.internal = true
	for _, tc := range []struct {
		mode4, mode6 spec.GatewayMode
		addresses    string
		advertised   int
	}{
		{spec.GatewayIsolated, spec.GatewayIsolated, "[]", 0},
		{spec.GatewayIsolated, "", "[" + nextHop + "/64 2001:db8:1:0:789a::1/80]", 1},
		{spec.GatewayNAT, spec.GatewayIsolated, "[172.24.154.1/24]", 0},
	} {
		r.options = func(o *spec.Options) { o.GatewayMode4, o.GatewayMode6 = tc.mode4, tc.mode6 }
		n, err := h.createNetwork(t.Context(), r)
		must(t, err)
		if got := h.snapshot().Links[n.Bridge()].Addrs; got != tc.addresses {
			t.Errorf("%s, %s: the bridge has %s, want %s", tc.mode4, tc.mode6, got, tc.addresses)
		}
		if got := len(h.advertised); got != tc.advertised {
			t.Errorf("%s, %s: advertisements on %d links, want %d", tc.mode4, tc.mode6, got, tc.advertised)
		}
		for set, want := range map[string]bool{"isolated4": tc.mode4 == spec.GatewayIsolated, "isolated6": tc.mode6 == spec.GatewayIsolated} {
			if got := h.elements(set) != ""; got != want {
				t.Errorf("%s, %s: in %s: %v, want %v", tc.mode4, tc.mode6, set, got, want)
			}
		}
		must(t, h.deleteNetwork(t.Context(), n))
	}
}

// nat-unprotected translates published ports as nat does, and opens the rest.
func TestUnprotected(t *testing.T) {
	h := newHost(t)
	r := dual(1)
	r.options = func(o *spec.Options) { o.GatewayMode4 = spec.GatewayUnprotected }
	n, err := h.createNetwork(t.Context(), r)
	must(t, err)
	a := &attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, a))
	must(t, h.engine.Publish(t.Context(), n.ID, a.id, []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}))
	for set, want := range map[string]string{
		"open4": `"` + n.Bridge() + `"`, "open6": "", "ports4": "tcp . 8080", "masquerade4": pool4, "published4": "",
	} {
		if got := h.elements(set); got != want {
			t.Errorf("%s: %s, want %s", set, got, want)
		}
	}
}
