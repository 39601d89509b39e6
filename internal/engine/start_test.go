package engine_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// What a start cannot finish keeps neither the daemon nor other networks from
// working, and is finished when it can be.
func TestStartFinishesLater(t *testing.T) {
	veth := spec.VethName(epID(1))
	bridge := spec.BridgeName(netID(1))
	for _, tc := range []struct {
		name   string
		cutOff func(h *host, n spec.Network) error // by broken
		broken string
		error  bool // the network says what is wrong
		gone   bool // with the network
	}{
		{name: "network: its bridge stays", broken: "link: remove " + bridge, error: true, gone: true,
			cutOff: func(h *host, n spec.Network) error { return h.engine.DeleteNetwork(t.Context(), n.ID) }},
		{name: "network: its container's link stays", broken: "link: remove " + veth, error: true, gone: true,
			cutOff: func(h *host, n spec.Network) error { return h.engine.DeleteNetwork(t.Context(), n.ID) }},
		{name: "network: its record stays", broken: "journal: delete network", error: true, gone: true,
			cutOff: func(h *host, n spec.Network) error { return h.engine.DeleteNetwork(t.Context(), n.ID) }},
		{name: "endpoint: its link stays", broken: "link: remove " + veth, error: true,
			cutOff: func(h *host, n spec.Network) error { return h.engine.DeleteEndpoint(t.Context(), n.ID, epID(1)) }},
		{name: "endpoint: its record stays", broken: "journal: delete endpoint", error: true,
			cutOff: func(h *host, n spec.Network) error { return h.engine.DeleteEndpoint(t.Context(), n.ID, epID(1)) }},
	} {
		for _, finish := range []string{"resync", "restart"} {
			t.Run(tc.name+"/"+finish, func(t *testing.T) {
				h := newHost(t)
				n, err := h.createNetwork(t.Context(), dual(1))
				must(t, err)
				other, err := h.createNetwork(t.Context(), dual(2))
				must(t, err)
				must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
				h.broken = tc.broken
				if tc.cutOff(h, n) == nil {
					t.Fatal("was not cut off")
				}
				h.restart(t)
				status := h.engine.Status(t.Context())
				if degraded := status.Networks[0].Error != ""; degraded != tc.error || status.Networks[1].Error != "" {
					t.Errorf("networks say %q and %q, want the first alone degraded: %t", status.Networks[0].Error, status.Networks[1].Error, tc.error)
				}
				for proxied := range h.proxied {
					t.Errorf("%s is answered for, though its endpoint is to go", proxied)
				}
				must(t, h.run(t.Context(), other, &attachment{id: epID(2)}))
				h.broken = ""
				if finish == "resync" {
					h.engine.Resync(t.Context())
				} else {
					h.restart(t)
				}
				_, linked := h.links[veth]
				_, recorded := h.world.journal["endpoint "+epID(1)]
				if linked || recorded {
					t.Errorf("the endpoint has a link: %t, a record: %t", linked, recorded)
				}
				if _, there := h.links[bridge]; there == tc.gone {
					t.Errorf("the bridge is there: %t", there)
				}
				if e := h.engine.Status(t.Context()).Networks[0].Error; e != "" {
					t.Errorf("still degraded: %s", e)
				}
				h.restart(t) // takes the leases back
				h.consistent(t, "finished")
			})
		}
	}
}

// An endpoint that was being made when the daemon was killed, and cannot be taken back at once.
func TestStartTakesCreationBackLater(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	before := h.snapshot()
	ep, err := h.lease(t.Context(), n, &attachment{id: epID(1)})
	must(t, err)
	h.arm(fault{at: 2, mode: crashAfter})
	if !dies(func() error { _, err := h.engine.CreateEndpoint(t.Context(), ep); return err }) {
		t.Fatalf("calls %q, want a crash", h.calls)
	}
	h.broken = "link: remove"
	h.restart(t)
	h.broken = ""
	h.engine.Resync(t.Context())
	h.restart(t) // takes the leases back
	sameWorld(t, "taken back", before, h.snapshot())
}

// A link with our mark that is nobody's and cannot be removed.
func TestStartLeavesLinkForLater(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	before := h.snapshot()
	h.addLink("v6nfoo", fakeLink{Kind: "bridge", Alias: spec.NetworkAlias(netID(7))})
	h.broken = "link: remove v6nfoo"
	h.restart(t)
	if e := h.engine.Status(t.Context()).Networks[0].Error; e != "" {
		t.Errorf("the network is degraded by a link that is not its own: %s", e)
	}
	a := attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, &a))
	must(t, h.stop(t.Context(), a))
	h.broken = ""
	h.engine.Resync(t.Context())
	sameWorld(t, "at the next opportunity", before, h.snapshot())
}

// The machine boots, and containers start, before their parent is there or up.
// They work on the host, and beyond it when the parent comes.
func TestParentComesAfterContainers(t *testing.T) {
	for _, why := range []string{"absent", "down"} {
		t.Run(why, func(t *testing.T) {
			h := newHost(t)
			eth0 := h.links["eth0"]
			eth0.MTU = 1400
			h.links["eth0"] = eth0
			n, err := h.createNetwork(t.Context(), dual(1))
			must(t, err)
			before := h.snapshot()

			h.reboot("second")
			h.remove("eth0")
			h.raLinks, h.defaultParent = nil, ""
			if why == "down" {
				h.addLink("eth0", fakeLink{Kind: "device", MTU: 1400})
			}
			h.restart(t)
			if e := h.engine.Status(t.Context()).Networks[0].Error; strings.Contains(e, "eth0") != (why == "absent") {
				t.Errorf("network is degraded: %q", e)
			}
			if _, there := h.links[n.Bridge()]; !there {
				t.Fatal("no bridge")
			}
			h.probes = nil
			a := &attachment{id: epID(1), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 80}}}
			must(t, h.run(t.Context(), n, a))
			named := ip("2001:db8:1:0:789a::50")
			if _, err := h.engine.RequestAddress(t.Context(), onLinkPool, named, false); err != nil {
				t.Errorf("an address that was asked for by name: %v", err)
			}
			must(t, h.engine.ReleaseAddress(t.Context(), onLinkPool, named))
			if len(h.probes) > 0 {
				t.Errorf("probes %v on a link on which nobody hears them", h.probes)
			}
			if veth, there := h.links[spec.VethName(a.id)]; !there || veth.Master != n.Bridge() {
				t.Errorf("the container has %+v", veth)
			}
			if !h.proxied["eth0 "+a.leases[onLinkPool].String()] {
				t.Errorf("proxied %v, want the container's address as soon as eth0 is there", h.proxied)
			}
			h.restart(t) // once more without it

			h.remove("eth0")
			h.comeUp(t, "eth0", fakeLink{Kind: "device", MTU: 1400})
			if e := h.engine.Status(t.Context()).Networks[0].Error; e != "" {
				t.Errorf("still degraded: %s", e)
			}
			h.expect(t, "when the parent is there", acceptRA0, "2")
			h.raLinks = []string{"eth0"}
			h.moveDefault(t, "eth0")
			must(t, h.stop(t.Context(), *a))
			sameWorld(t, "when the parent is there", before, h.snapshot())
		})
	}
}

// A daemon is killed before its answer to RequestPool is heard. The subnet that its user
// has named is had by the same request, while another daemon's pool is kept from others.
func TestKilledBeforeRequestPoolIsAnswered(t *testing.T) {
	h := newHost(t)
	for range 2 {
		p, err := h.engine.RequestPool(t.Context(), static("2001:db8:ff::/64"))
		must(t, err)
		h.restart(t)
		if _, err := h.engine.RequestPool(t.Context(), static("2001:db8:ff::/60")); err == nil {
			t.Error("a subnet that overlaps it was had, too")
		}
		if p.ID != "2001:db8:ff::/64" {
			t.Errorf("pool %s", p.ID)
		}
	}
	_, err := h.engine.RequestAddress(t.Context(), "2001:db8:ff::/64", netip.Addr{}, true)
	must(t, err)
	h.restart(t)
	if _, err := h.engine.RequestPool(t.Context(), static("2001:db8:ff::/64")); err == nil {
		t.Error("a pool with a lease, whose network is being made, was had by another")
	}
}

// A daemon is killed before its answer to Join is heard. The container engine asks again,
// and its container starts.
func TestKilledBeforeJoinIsAnswered(t *testing.T) {
	for _, options := range [][]string{nil, {"mode", "macvlan", "parent", "eth0"}} {
		h := newHost(t)
		r := dual(1)
		if options != nil {
			r = child(t, 1, options...)
		}
		n, err := h.createNetwork(t.Context(), r)
		must(t, err)
		a := &attachment{id: epID(1)}
		ep, err := h.lease(t.Context(), n, a)
		must(t, err)
		_, err = h.engine.CreateEndpoint(t.Context(), ep)
		must(t, err)
		_, err = h.engine.Join(t.Context(), n.ID, a.id, "/run/netns/a")
		must(t, err)
		h.restart(t)
		if _, err := h.engine.Join(t.Context(), n.ID, a.id, "/run/netns/a"); err != nil {
			t.Errorf("%v: Join once more: %v", options, err)
		}
		h.moveIn(a.id)
		h.restart(t)
		if _, err := h.engine.Endpoint(t.Context(), n.ID, a.id); err != nil {
			t.Errorf("%v: the container runs: %v", options, err)
		}
		h.moveOut(a.id)
		h.restart(t)
		if _, err := h.engine.Endpoint(t.Context(), n.ID, a.id); !errors.Is(err, spec.ErrNotFound) {
			t.Errorf("%v: the container has ended: %v, want not found", options, err)
		}
	}
}

// TestContainerEndsWhileNoDaemonRuns: the container engine gives up telling a
// plugin that is disabled, and never does again.
func TestContainerEndsWhileNoDaemonRuns(t *testing.T) {
	for name, end := range map[string]func(h *host, id string){
		"its link is back": func(h *host, id string) { h.moveOut(id) },
		"its link is gone": func(h *host, id string) { h.remove(spec.VethName(id)) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			h := newHost(t)
			n, err := h.createNetwork(ctx, dual(1))
			must(t, err)
			ended := &attachment{network: n.ID, id: epID(1), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}}
			must(t, h.run(ctx, n, ended))
			must(t, h.run(ctx, n, &attachment{network: n.ID, id: epID(2)}))

			end(h, ended.id)
			h.restart(t)
			if _, err := h.engine.Endpoint(ctx, n.ID, ended.id); !errors.Is(err, spec.ErrNotFound) {
				t.Errorf("the ended container's endpoint: %v, want not found", err)
			}
			if _, there := h.links[spec.VethName(ended.id)]; there {
				t.Error("the ended container's link is left behind")
			}
			if _, err := h.engine.Endpoint(ctx, n.ID, epID(2)); err != nil {
				t.Errorf("the running container's endpoint: %v", err)
			}
			must(t, h.stop(ctx, *ended)) // late calls find nothing
			must(t, h.run(ctx, n, &attachment{network: n.ID, id: epID(3), ports: ended.ports}))
			h.consistent(t, "its port is published again")
		})
	}
}
