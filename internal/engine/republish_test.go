package engine_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// A container's ports are published by its first network with a way out, and move on
// when that is taken away.
func TestPortsFollowTheFirstNetwork(t *testing.T) {
	h := newHost(t)
	for i, name := range []string{"a", "b", "inside"} {
		r := request(i+1, name, ula6(), auto4())
		r.Internal = name == "inside"
		_, err := h.engine.MakeNetwork(t.Context(), r)
		must(t, err)
	}
	publishing := func() (networks []string) {
		for _, n := range h.engine.Status(t.Context()).Networks {
			for _, ep := range n.Endpoints {
				if len(ep.Ports) > 0 {
					networks = append(networks, n.Name)
				}
			}
		}
		return networks
	}
	for _, step := range []struct {
		network int
		link    string // empty: detach
		want    []string
	}{
		{3, "eth0", nil}, {2, "eth2", []string{"b"}}, {1, "eth1", []string{"a"}}, {1, "", []string{"b"}}, {1, "eth3", []string{"b"}}, {2, "", []string{"a"}}, {1, "", nil},
	} {
		if step.link == "" {
			must(t, h.engine.Detach(t.Context(), netID(step.network), epID(step.network)))
		} else {
			_, err := h.engine.Attach(t.Context(), attach(step.network, step.network, step.link, web))
			must(t, err)
		}
		if got := publishing(); !slices.Equal(got, step.want) {
			t.Errorf("after network %d has %q: ports are published by %q, want %q", step.network, step.link, got, step.want)
		}
	}
	ranked := attach(1, 1, "data", web)
	one, err := h.engine.Attach(t.Context(), ranked)
	must(t, err)
	two, err := h.engine.Attach(t.Context(), attach(2, 2, "log", web))
	must(t, err)
	if one.Endpoint.Rank == two.Endpoint.Rank {
		t.Errorf("two networks of a container have rank %d", one.Endpoint.Rank)
	}
}

// A port leads to a container in each family that any of its networks has: by the
// first that has it, and by no other.
func TestPortsInEachFamily(t *testing.T) {
	h := newHost(t)
	make := func(n int, name string, options func(*spec.Options), pools ...spec.PoolRequest) {
		t.Helper()
		r := request(n, name, pools...)
		if options != nil {
			options(&r.Options)
		}
		_, err := h.engine.MakeNetwork(t.Context(), r)
		must(t, err)
	}
	make(1, "six", nil, ula6())
	make(2, "dual", nil, ula6(), auto4())
	make(3, "more", nil, ula6(), auto4())
	make(4, "closed", func(o *spec.Options) { o.Inbound = spec.InboundNone }, ula6(), auto4())
	publishing := func() string {
		var out []string
		for _, n := range h.engine.Status(t.Context()).Networks {
			for _, ep := range n.Endpoints {
				for _, p := range ep.Ports {
					out = append(out, fmt.Sprintf("%s:%d", n.Name, p.Family))
				}
			}
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	for _, step := range []struct {
		network int
		link    string // empty: detach
		want    string
	}{
		{2, "eth1", "dual:0"},
		{1, "eth0", "dual:4 six:6"}, // eth1 gives IPv6 up before eth0 takes it
		{3, "eth2", "dual:4 six:6"},
		{2, "", "more:4 six:6"},
		{1, "", "more:0"},
		{3, "", ""},
		{1, "eth0", "six:6"},
		{4, "eth1", "six:6"}, // it stands in for nobody, and is no reason to refuse the container
	} {
		if step.link == "" {
			must(t, h.engine.Detach(t.Context(), netID(step.network), epID(step.network)))
		} else {
			ask := attach(step.network, step.network, step.link, web)
			_, err := h.engine.Attach(t.Context(), ask)
			must(t, err)
		}
		if got := publishing(); got != step.want {
			t.Errorf("after network %d has %q: published by %q, want %q", step.network, step.link, got, step.want)
		}
	}
}

// A network that the daemon does not know is made as its front end remembers it.
// A renumbering that comes while a container's connections are forgotten does not keep
// its ports from moving on, nor its addresses from being free.
func TestPortsFollowThoughRenumbered(t *testing.T) {
	h := newHost(t)
	h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
	one, two := request(1, "one", pd6(""), auto4()), request(2, "two", ula6(), auto4())
	var leases []netip.Prefix
	for i, network := range []spec.NetworkRequest{one, two} {
		_, err := h.engine.MakeNetwork(t.Context(), network)
		must(t, err)
		a := attach(i+1, i+1, fmt.Sprint("eth", i), web)
		a.Network = network
		attached, err := h.engine.Attach(t.Context(), a)
		must(t, err)
		leases = append(leases, attached.Endpoint.IPv6)
	}
	h.onForget = func() {
		h.onForget = nil
		h.lend(t, delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
	}
	must(t, h.engine.Detach(t.Context(), one.ID, epID(1)))
	left, err := h.engine.Endpoint(t.Context(), netID(2), epID(2))
	must(t, err)
	if len(left.Ports) == 0 {
		t.Error("the container's port is published by no network")
	}
	if _, err := h.engine.RequestAddress(t.Context(), leases[0].Masked().String(), leases[0].Addr(), false); err != nil {
		t.Errorf("the address of the container that has left: %v", err)
	}
}
