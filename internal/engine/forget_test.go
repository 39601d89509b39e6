package engine_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// A container's connections end with it: after the rules are closed, so that
// none can be made any more, and before anybody else can have its addresses.
func TestConnectionsEndWithTheEndpoint(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	a := &attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, a))
	forgotten := func() string {
		return fmt.Sprintf("conntrack: forget [%s %s]", a.leases[onLinkPool], a.leases[pool4])
	}
	ended := func() bool {
		return h.calledInOrder("firewall: update", forgotten(), "link: remove "+spec.VethName(a.id), "journal: delete endpoint "+a.id)
	}
	h.arm(fault{})
	must(t, h.stop(t.Context(), *a))
	if !ended() {
		t.Errorf("calls %q", h.calls)
	}

	must(t, h.run(t.Context(), n, a))
	must(t, h.engine.Leave(t.Context(), n.ID, a.id))
	h.arm(fault{at: 3, mode: failBefore}) // journal, firewall, conntrack
	if err := h.engine.DeleteEndpoint(t.Context(), n.ID, a.id); err == nil || !h.calledInOrder(forgotten()) {
		t.Errorf("connections could not be ended: %v; calls %q", err, h.calls)
	}
	h.disarm()
	must(t, h.engine.DeleteEndpoint(t.Context(), n.ID, a.id))
	if !ended() {
		t.Errorf("a second time: calls %q", h.calls)
	}
}

// What a container holds of a prefix that has gone, since it cannot be entered, it may have
// connections from until it ends.
func TestConnectionsOfHeldAddressesEndWithTheEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, a := locked(t)
		h.lend(t, delegated("2001:db8:b000::/56", 6*time.Hour, 8*time.Hour))
		h.pass(t, 2*time.Hour+time.Second)
		h.arm(fault{})
		must(t, h.stop(t.Context(), *a))
		if want := fmt.Sprintf("conntrack: forget [2001:db8:b000::2 %s 2001:db8:a000::2]", a.leases[pool4]); !h.calledInOrder("firewall: update", want) {
			t.Errorf("calls %q, want %s", h.calls, want)
		}
	})
}

// The connections of addresses that no endpoint has had end with the network, when there is
// no way in any more.
func TestConnectionsEndWithTheNetwork(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*spec.Network)
		want   string // forgotten; empty: nothing
	}{
		{"plain", func(*spec.Network) {}, ""},
		{"auxiliary addresses", func(n *spec.Network) { n.IPv6[0].Aux = []netip.Addr{ip("fd00:9::53")} }, "[fd00:9::/64]"},
		{"autonomous", func(n *spec.Network) { n.Options.Advertise.Autonomous = true }, "[fd00:9::/64]"},
		{"antispoof=off", func(n *spec.Network) { n.Options.AnySource = true }, "[fd00:9::/64]"},
		{"on its parent", func(n *spec.Network) { n.Options.AnySource, n.Options.Mode = true, spec.ModeMacvlan }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			n := spec.Network{ID: netID(9), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: pfx("fd00:9::/64"), Gateway: ip("fd00:9::1")}}}
			tc.change(&n)
			must(t, h.engine.CreateNetwork(t.Context(), n))
			h.arm(fault{})
			must(t, h.engine.DeleteNetwork(t.Context(), n.ID))
			if tc.want != "" && !h.calledInOrder("firewall: remove", "conntrack: forget pools "+tc.want, "journal: delete network "+n.ID) {
				t.Errorf("calls %q", h.calls)
			}
			if tc.want == "" && slices.ContainsFunc(h.calls, func(c string) bool { return strings.HasPrefix(c, "conntrack") }) {
				t.Errorf("calls %q, want nothing forgotten", h.calls)
			}
		})
	}
}

// The connections of such addresses end with a prefix that their network loses, too, and at
// the network's end with those that it has then, whatever container engines know it by.
func TestConnectionsEndWithThePrefix(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*spec.Network)
		ended  bool
	}{
		{"plain", func(*spec.Network) {}, false},
		{"auxiliary addresses", func(n *spec.Network) { n.IPv6[0].Aux = []netip.Addr{ip("2001:db8:a000::53")} }, true},
		{"autonomous", func(n *spec.Network) { n.Options.Advertise.Autonomous = true }, true},
		{"antispoof=off", func(n *spec.Network) { n.Options.AnySource = true }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.lentTo[pdOnEth0] = []spec.Delegation{delegated("2001:db8:a000::/56", time.Hour, 2*time.Hour)}
				p, err := h.engine.RequestPool(t.Context(), pd6(spec.FallbackNone))
				must(t, err)
				n := spec.Network{ID: netID(9), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: p.Prefix, Gateway: ip("2001:db8:a000::1")}}}
				tc.change(&n)
				must(t, h.engine.CreateNetwork(t.Context(), n))
				expect := func(when, want string, after ...string) {
					t.Helper()
					if want != "" && tc.ended && !h.calledInOrder(append(after, "conntrack: forget pools "+want)...) {
						t.Errorf("%s: calls %q, want %s forgotten", when, h.calls, want)
					}
					if (want == "" || !tc.ended) && slices.ContainsFunc(h.calls, func(c string) bool { return strings.HasPrefix(c, "conntrack") }) {
						t.Errorf("%s: calls %q, want nothing forgotten", when, h.calls)
					}
					h.arm(fault{})
				}
				h.arm(fault{})
				h.lend(t, delegated("2001:db8:a000::/56", 0, 30*time.Minute), delegated("2001:db8:b000::/56", time.Hour, 2*time.Hour))
				expect("renumbered, with a former prefix", "")
				h.pass(t, 31*time.Minute)
				expect("at the end of the former prefix", "[2001:db8:a000::/64]", "firewall: apply")
				must(t, h.engine.DeleteNetwork(t.Context(), n.ID))
				expect("without the network", "[2001:db8:b000::/64]", "firewall: remove")
			})
		})
	}
}

// Connections to a port end when it is closed, and to a translated UDP port those
// that came before it was opened; no others.
func TestConnectionsEndWithThePort(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	a := &attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, a))
	for _, step := range []struct {
		ports []spec.Port
		want  string
	}{
		{[]spec.Port{{Protocol: "udp", Port: 53, HostPort: 5353}}, "[0.0.0.0:5353->172.24.154.2:53/udp]"},
		{[]spec.Port{{Protocol: "udp", Port: 53, HostPort: 5353}, {Protocol: "tcp", Port: 80, HostPort: 80}}, "[]"},
		{[]spec.Port{{Protocol: "tcp", Port: 80, HostPort: 81}}, "[[2001:db8:1:0:789a::2]:53/udp 0.0.0.0:5353->172.24.154.2:53/udp 0.0.0.0:80->172.24.154.2:80/tcp]"},
		{nil, "[[2001:db8:1:0:789a::2]:80/tcp 0.0.0.0:81->172.24.154.2:80/tcp]"},
	} {
		h.arm(fault{})
		must(t, h.engine.Publish(t.Context(), n.ID, a.id, step.ports))
		if !h.calledInOrder("firewall: update", "conntrack: forget ports "+step.want) {
			t.Errorf("publish %v: calls %q, want %s forgotten", step.ports, h.calls, step.want)
		}
	}
}

// Addresses are live from before a container can have them until it has gone,
// and those that the user says somebody has are so all the time.
func TestLiveAddresses(t *testing.T) {
	h := newHost(t)
	r := dual(1)
	n, err := h.createNetwork(t.Context(), r)
	must(t, err)
	expect := func(when, live4, live6 string) {
		t.Helper()
		if got4, got6 := h.elements("live4"), h.elements("live6"); got4 != live4 || got6 != live6 {
			t.Errorf("%s: live %s and %s, want %s and %s", when, got4, got6, live4, live6)
		}
	}
	expect("a network", "", "")
	a := &attachment{id: epID(1)}
	ep, err := h.lease(t.Context(), n, a)
	must(t, err)
	_, err = h.engine.CreateEndpoint(t.Context(), ep)
	must(t, err)
	expect("created", "172.24.154.2", "2001:db8:1:0:789a::2")
	h.restart(t)
	expect("after a restart", "172.24.154.2", "2001:db8:1:0:789a::2")
	must(t, h.engine.DeleteEndpoint(t.Context(), n.ID, a.id))
	expect("deleted", "", "")

	ep, err = h.lease(t.Context(), n, &attachment{id: epID(2)})
	must(t, err)
	h.arm(fault{at: 4, mode: failAfter}) // journal, link, its setting, firewall
	if _, err = h.engine.CreateEndpoint(t.Context(), ep); err == nil || !h.calledInOrder("link: ", "firewall: update", "firewall: update") {
		t.Errorf("the rules could not be put in place: %v; calls %q", err, h.calls)
	}
	h.disarm()
	expect("taken back", "", "")

	must(t, h.engine.CreateNetwork(t.Context(), spec.Network{ID: netID(2), Options: spec.DefaultOptions(),
		IPv6: []spec.Subnet{{Prefix: pfx("fd00:9::/64"), Gateway: ip("fd00:9::1"), Aux: []netip.Addr{ip("fd00:9::53")}}}}))
	expect("auxiliary", "", "fd00:9::53")
}

// While a container's connections are forgotten, which may take long, others are served;
// nobody gets its addresses, and if its network is removed meanwhile all is well.
func TestForgettingHoldsNobodyUp(t *testing.T) {
	for _, removed := range []bool{false, true} {
		h := newHost(t)
		n, err := h.createNetwork(t.Context(), dual(1))
		must(t, err)
		a, b := &attachment{id: epID(1)}, &attachment{id: epID(2)}
		must(t, h.run(t.Context(), n, a))
		must(t, h.run(t.Context(), n, b))
		served := 0
		h.onForget = func() {
			h.onForget = nil // the engine below forgets, too
			served++
			_, err := h.engine.Endpoint(t.Context(), n.ID, b.id)
			must(t, err)
			ep := spec.Endpoint{ID: epID(3), NetworkID: n.ID, IPv6: netip.PrefixFrom(a.leases[onLinkPool], 80), IPv4: netip.PrefixFrom(a.leases[pool4], 24)}
			if _, err := h.engine.CreateEndpoint(t.Context(), ep); err == nil {
				t.Error("another endpoint has the addresses")
			}
			if removed {
				must(t, h.engine.DeleteNetwork(t.Context(), n.ID))
			}
		}
		must(t, h.engine.DeleteEndpoint(t.Context(), n.ID, a.id))
		if served != 1 {
			t.Errorf("served %d times", served)
		}
		for pool, addr := range a.leases {
			must(t, gone(h.engine.ReleaseAddress(t.Context(), pool, addr)))
		}
		h.consistent(t, "afterwards")
	}
}

// What is asked of an endpoint while its connections are forgotten comes too late: neither a
// port nor an answer for its address is left of it.
func TestAskedWhileForgetting(t *testing.T) {
	for name, ask := range map[string]func(h *host, network, id string) error{
		"publish": func(h *host, network, id string) error {
			return h.engine.Publish(t.Context(), network, id, []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}})
		},
		"join": func(h *host, network, id string) error {
			_, err := h.engine.Join(t.Context(), network, id, "/run/sandbox")
			return err
		},
		"the parent comes up": func(h *host, network, id string) error {
			h.engine.Resync(t.Context())
			return spec.ErrNotFound
		},
	} {
		h := newHost(t)
		n, err := h.createNetwork(t.Context(), dual(1))
		must(t, err)
		a := &attachment{id: epID(1)}
		must(t, h.run(t.Context(), n, a))
		h.onForget = func() {
			h.onForget = nil
			if err := ask(h, n.ID, a.id); !errors.Is(err, spec.ErrNotFound) {
				t.Errorf("%s: %v, want not found", name, err)
			}
		}
		must(t, h.engine.DeleteEndpoint(t.Context(), n.ID, a.id))
		h.moveOut(a.id)
		for pool, addr := range a.leases {
			must(t, gone(h.engine.ReleaseAddress(t.Context(), pool, addr)))
		}
		if len(h.proxied) > 0 {
			t.Errorf("%s: %v are answered for", name, h.proxied)
		}
		h.consistent(t, name)
	}
}
