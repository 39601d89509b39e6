package engine_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// A container has its IPv6 default route from the engine or from an
// advertisement: never from neither, and never from both, where the engine's
// would fail with "File exists".
func TestDefaultRouteHasOneSource(t *testing.T) {
	router := ip("fe80::99")
	for _, tc := range []struct {
		name       string
		ra         string
		gateway    string
		noGuard    bool
		routers    []netip.Addr
		advertises bool
		guarded    bool
		next       netip.Addr
	}{
		{name: "router known", ra: "auto", routers: []netip.Addr{router}, guarded: true, next: router},
		{name: "router heard", ra: "auto", advertises: true, guarded: true, next: router},
		{name: "router unknown", ra: "auto"},
		{name: "router unknown, guard demanded", ra: "off", guarded: true},
		{name: "no guard", ra: "auto", noGuard: true, routers: []netip.Addr{router}},
		{name: "no guard, router unknown", ra: "auto", noGuard: true},
		{name: "no guard, router named", ra: "auto", noGuard: true, gateway: "2001:db8:ff::fe", next: ip("2001:db8:ff::fe")},
		{name: "no guard, router named, and one advertises", ra: "auto", noGuard: true, gateway: "2001:db8:ff::fe", advertises: true},
		{name: "router named", ra: "auto", gateway: "2001:db8:ff::fe", advertises: true, guarded: true, next: ip("2001:db8:ff::fe")},
		{name: "left to containers", ra: "on", routers: []netip.Addr{router}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.missing["guard"] = tc.noGuard
			h.routers = map[string][]netip.Addr{"eth0": tc.routers}
			if tc.advertises {
				h.heardOn = map[string][]spec.HeardRouter{"eth0": {heard(router)}}
			}
			r := child(t, 1, "mode", "macvlan", "ra", tc.ra)
			r.pools, r.gateways = []spec.PoolRequest{static("2001:db8:ff::/64")}, []string{tc.gateway}
			n, err := h.createNetwork(t.Context(), r)
			must(t, err)
			ep, err := h.lease(t.Context(), n, &attachment{id: epID(1)})
			must(t, err)
			_, err = h.engine.CreateEndpoint(t.Context(), ep)
			must(t, err)
			h.consistent(t, "created")
			attached, err := h.engine.Join(t.Context(), n.ID, epID(1), "/run/sandbox")
			must(t, err)
			if got := h.links[spec.SandboxName(epID(1))].Guarded; got != tc.guarded || attached.Gateway6 != tc.next {
				t.Errorf("guarded %t, next hop %s; want %t, %s", got, attached.Gateway6, tc.guarded, tc.next)
			}
			h.moveIn(epID(1))
			h.consistent(t, "joined")
		})
	}
}

// What was decided when the link was made holds when it is handed out: the
// guard cannot be taken off, so a router that is gone for a moment counts still.
func TestNextHopOutlivesTheGuard(t *testing.T) {
	for _, tc := range []struct {
		name          string
		before, after []netip.Addr
		want          netip.Addr
	}{
		{name: "lost meanwhile", before: []netip.Addr{ip("fe80::99")}, want: ip("fe80::99")},
		{name: "found meanwhile", after: []netip.Addr{ip("fe80::99")}, want: ip("fe80::99")},
	} {
		for _, crash := range []bool{false, true} {
			h := newHost(t)
			h.routers = map[string][]netip.Addr{"eth0": tc.before}
			n, err := h.createNetwork(t.Context(), child(t, 1, "mode", "macvlan"))
			must(t, err)
			ep, err := h.lease(t.Context(), n, &attachment{id: epID(1)})
			must(t, err)
			_, err = h.engine.CreateEndpoint(t.Context(), ep)
			must(t, err)
			h.routers = map[string][]netip.Addr{"eth0": tc.after}
			if crash {
				h.restart(t)
				h.consistent(t, "restarted")
				h.routers = nil // what the start decided holds, too
			}
			attached, err := h.engine.Join(t.Context(), n.ID, epID(1), "/run/sandbox")
			must(t, err)
			if guarded := h.links[spec.SandboxName(epID(1))].Guarded; attached.Gateway6 != tc.want || !guarded {
				t.Errorf("%s, crash %t: next hop %s, guarded %t; want %s and a guard", tc.name, crash, attached.Gateway6, guarded, tc.want)
			}
		}
	}
}

func TestListeningContainersHaveNoNamedRouter(t *testing.T) {
	h := newHost(t)
	r := child(t, 1, "mode", "macvlan", "ra", "on")
	r.pools, r.gateways = []spec.PoolRequest{static("2001:db8:ff::/64")}, []string{"2001:db8:ff::fe"}
	if _, err := h.createNetwork(t.Context(), r); err == nil || !strings.Contains(err.Error(), "ra=on") || !strings.Contains(err.Error(), "2001:db8:ff::fe") {
		t.Errorf("error %v, want one that names the gateway and ra=on", err)
	}
}

// heard is a router that advertises itself.
func heard(source netip.Addr) spec.HeardRouter {
	return spec.HeardRouter{Advertisement: spec.Advertisement{Source: source, RouterLifetime: 1800}}
}

func TestGuardIsTheUsersChoice(t *testing.T) {
	for _, tc := range []struct {
		ra               string
		missing, guarded bool
		refused          bool
	}{
		{ra: "auto", guarded: true}, {ra: "off", guarded: true}, {ra: "on"},
		{ra: "auto", missing: true}, {ra: "off", missing: true, refused: true},
	} {
		t.Run(fmt.Sprint(tc.ra, " missing ", tc.missing), func(t *testing.T) {
			h := newHost(t)
			h.missing["guard"] = tc.missing
			n, err := h.createNetwork(t.Context(), child(t, 1, "mode", "macvlan", "ra", tc.ra))
			if tc.refused {
				if err == nil || !strings.Contains(err.Error(), "CAP_BPF") || len(h.aliases()) > 0 {
					t.Errorf("error %v, links %v", err, h.aliases())
				}
				return
			}
			must(t, err)
			must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
			if got := h.elsewhere[spec.EndpointAlias(epID(1))].Guarded; got != tc.guarded {
				t.Errorf("guarded %t, want %t", got, tc.guarded)
			}
		})
	}
}
