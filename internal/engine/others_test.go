package engine_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// lan is the parent's own IPv4 subnet, as Docker 28 and later ask for it without
// --gateway: no gateway address is requested.
func lan(t testing.TB, h *host, options ...string) (spec.Network, error) {
	t.Helper()
	r := child(t, 1, append([]string{"mode", "macvlan"}, options...)...)
	n := spec.Network{ID: r.id, Options: spec.DefaultOptions()}
	r.options(&n.Options)
	for _, request := range []spec.PoolRequest{static("192.168.1.0/24"), auto6()} {
		p, err := h.engine.RequestPool(t.Context(), request)
		must(t, err)
		if request.V6 {
			n.IPv6 = []spec.Subnet{{Prefix: p.Prefix}}
		} else {
			n.IPv4 = []spec.Subnet{{Prefix: p.Prefix}}
		}
	}
	return n, h.engine.CreateNetwork(t.Context(), clone(n))
}

// A container with the router's address takes the whole link's way out.
func TestNoContainerIsTheRouter(t *testing.T) {
	h := newHost(t)
	h.routers["eth0"] = []netip.Addr{ip("192.0.2.1"), ip("192.168.1.1"), ip("fe80::99")}
	h.routes = append(h.routes, pfx("192.168.1.7/32"))
	n, err := lan(t, h)
	must(t, err)
	for range 2 {
		a := &attachment{id: epID(1)}
		ep, err := h.lease(t.Context(), n, a)
		must(t, err)
		if ep.IPv4 == pfx("192.168.1.1/24") || ep.IPv4 == pfx("192.168.1.7/24") {
			t.Errorf("a container gets %s, the router's or the host's", ep.IPv4)
		}
		for address, whose := range map[string]string{"192.168.1.1": "router on eth0", "192.168.1.7": "this host's own"} {
			if _, err := h.engine.RequestAddress(t.Context(), "192.168.1.0/24", ip(address), false); err == nil || !strings.Contains(err.Error(), whose) {
				t.Errorf("docker run --ip %s: %v, want an error that says whose it is", address, err)
			}
			taken := ep
			taken.IPv4 = netip.PrefixFrom(ip(address), 24)
			if _, err := h.engine.CreateEndpoint(t.Context(), taken); err == nil || !strings.Contains(err.Error(), whose) {
				t.Errorf("an endpoint with %s: %v", address, err)
			}
		}
		_, err = h.engine.CreateEndpoint(t.Context(), ep)
		must(t, err)
		attached, err := h.engine.Join(t.Context(), n.ID, a.id, "/run/sandbox")
		must(t, err)
		if attached.Gateway4 != ip("192.168.1.1") {
			t.Errorf("next hop %s, want the one of the subnet", attached.Gateway4)
		}
		must(t, h.stop(t.Context(), *a))
		h.routers = nil // at a boot they come late
		h.restart(t)
	}
}

// A router that comes later is none of the containers' either.
func TestRouterThatComesLater(t *testing.T) {
	h := newHost(t)
	h.routers["eth0"] = []netip.Addr{ip("192.168.1.254")}
	_, err := lan(t, h)
	must(t, err)
	h.routers["eth0"] = []netip.Addr{ip("192.168.1.1")}
	h.engine.RoutesChanged(t.Context())
	if got := next(t, h, "192.168.1.0/24"); got != ip("192.168.1.2") {
		t.Errorf("a container gets %s, want the first that is no router's", got)
	}
}

func TestUnknownRouterHasToBeNamed(t *testing.T) {
	h := newHost(t)
	before := h.snapshot()
	n, err := lan(t, h)
	if err == nil || !strings.Contains(err.Error(), "192.168.1.0/24") || !strings.Contains(err.Error(), "--gateway") {
		t.Errorf("error %v, want one that asks for --gateway", err)
	}
	must(t, h.releasePools(t.Context(), n))
	sameWorld(t, "after the refusal", before, h.snapshot())
}
