package engine_test

import (
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// closedBesideAnother is a host with a network that contradicts itself, and is closed, and
// another one. Each has a container; that of the second publishes a port.
func closedBesideAnother(t *testing.T) (h *host, closed, other spec.Endpoint) {
	t.Helper()
	h = newHost(t)
	odd := dual(1)
	odd.options = func(o *spec.Options) { o.BridgeName = "br+" }
	var eps []spec.Endpoint
	for i, r := range []recipe{odd, dual(2)} {
		n, err := h.createNetwork(t.Context(), r)
		must(t, err)
		a := &attachment{id: epID(i)}
		if i == 1 {
			a.ports = []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}
		}
		must(t, h.run(t.Context(), n, a))
		ep, err := h.engine.Endpoint(t.Context(), n.ID, a.id)
		must(t, err)
		eps = append(eps, ep)
	}
	return h, eps[0], eps[1]
}

// A call of a closed network's is explained by that: the rules know nothing but its bridge.
func TestClosedNetworkIsExplained(t *testing.T) {
	h, closed, other := closedBesideAnother(t)
	for _, tc := range []struct {
		from, to string
		want     spec.Verdict
		says     string
	}{
		{closed.IPv6.Addr().String(), "2001:db8:ffff::9", spec.Dropped, "is closed"},
		{"2001:db8:ffff::9", closed.IPv6.Addr().String(), spec.Dropped, "is closed"},
		{closed.IPv4.Addr().String(), other.IPv4.Addr().String(), spec.Dropped, "is closed"},
		{closed.IPv6.Addr().String(), other.IPv6.Addr().String(), spec.Dropped, "iptables cannot say"},
		{other.IPv6.Addr().String(), closed.IPv6.Addr().String(), spec.Dropped, "is closed"},
		{closed.IPv6.Addr().String(), closed.IPv6.Addr().Next().String(), spec.Unjudged, "stays on its bridge"},
		{"2001:db8:ffff::9", other.IPv6.Addr().String(), spec.Accepted, "published"},
	} {
		j := h.explain(t, tc.from, tc.to)
		if j.Verdict != tc.want || !strings.Contains(j.Why, tc.says) {
			t.Errorf("%s to %s: %s, %s; want %s, and %q said", tc.from, tc.to, j.Verdict, j.Why, tc.want, tc.says)
		}
	}
}

// What the rules have counted, and who is in their way, is told beside a closed network, too.
func TestStatusBesideAClosedNetwork(t *testing.T) {
	h, _, _ := closedBesideAnother(t)
	h.obstacles = []spec.Obstacle{{Table: "inet filter", Chain: "forward"}}
	s := h.engine.Status(t.Context())
	if len(s.Obstacles) != 1 || s.Networks[1].Firewall == nil {
		t.Errorf("obstacles %v, and the other network has counted %v", s.Obstacles, s.Networks[1].Firewall)
	}
}
