package engine_test

import (
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// A VLAN sub-interface comes with the first network on it and goes with the last.
func TestVLANParent(t *testing.T) {
	h := newHost(t)
	h.onLink["eth0.50"] = nil
	pristine := h.snapshot()
	make := func(n int, pool string) spec.Network {
		r := child(t, n, "mode", "macvlan", "parent", "eth0.50")
		r.pools = []spec.PoolRequest{static(pool)}
		made, err := h.createNetwork(t.Context(), r)
		must(t, err)
		return made
	}
	one, two := make(1, "2001:db8:a1::/64"), make(2, "2001:db8:a2::/64")
	if l := h.links["eth0.50"]; l.Kind != "vlan" || !l.Up || h.sysctls["net/ipv6/conf/eth0.50/accept_ra"] != "0" {
		t.Errorf("VLAN %+v, accept_ra %s, want it up and without advertisements", l, h.sysctls["net/ipv6/conf/eth0.50/accept_ra"])
	}
	must(t, h.deleteNetwork(t.Context(), one))
	if h.links["eth0.50"].Kind != "vlan" {
		t.Error("it went with the first of two networks")
	}
	h.remove("eth0.50") // by somebody else
	h.engine.LinkChanged(t.Context(), "eth0.50", false, true)
	if h.links["eth0.50"].Kind != "vlan" {
		t.Error("it was not made again")
	}
	h.restart(t)
	h.consistent(t, "one network")
	must(t, h.deleteNetwork(t.Context(), two))
	sameWorld(t, "at the end", pristine, h.snapshot())

	h.addLink("eth0.50", fakeLink{Kind: "vlan", Parent: "eth0", Up: true}) // the administrator's
	three := make(3, "2001:db8:a3::/64")
	must(t, h.deleteNetwork(t.Context(), three))
	if l := h.links["eth0.50"]; l.Alias != "" || l.Kind != "vlan" {
		t.Errorf("the administrator's VLAN is %+v", l)
	}
}

// A VLAN sub-interface of ours is every network's whose parent it is.
func TestVLANIsSharedWithABridge(t *testing.T) {
	for _, named := range []bool{true, false} { // by the network, or by its pool
		h := newHost(t)
		h.onLink["eth0.50"] = nil
		if !named {
			h.onLink["eth0.50"] = append(h.onLink["eth0.50"], pfx("2001:db8:a2::/64"))
		}
		pristine := h.snapshot()
		r := child(t, 1, "mode", "macvlan", "parent", "eth0.50")
		r.pools = []spec.PoolRequest{static("2001:db8:a1::/64")}
		one, err := h.createNetwork(t.Context(), r)
		must(t, err)
		r = recipe{id: netID(2), pools: []spec.PoolRequest{static("2001:db8:a2:0:1::/80")}}
		if named {
			r.options = func(o *spec.Options) { o.Parent = "eth0.50" }
		} else {
			r.pools[0].Parent = "eth0.50"
		}
		two, err := h.createNetwork(t.Context(), r)
		must(t, err)
		must(t, h.deleteNetwork(t.Context(), one))
		if h.links["eth0.50"].Kind != "vlan" {
			t.Errorf("named %t: the parent of a bridge network was removed", named)
		}
		h.restart(t)
		if h.links["eth0.50"].Kind != "vlan" {
			t.Errorf("named %t: the parent of a bridge network was removed by a start", named)
		}
		must(t, h.deleteNetwork(t.Context(), two))
		sameWorld(t, "at the end", pristine, h.snapshot())
	}
}

// A VLAN has the MTU of what it is on, and so have its containers.
func TestMTUFollowsTheVLANsBase(t *testing.T) {
	h := newHost(t)
	h.onLink["eth0.50"] = nil
	r := child(t, 1, "mode", "macvlan", "parent", "eth0.50")
	r.pools = []spec.PoolRequest{static("2001:db8:a1::/64")}
	n, err := h.createNetwork(t.Context(), r)
	must(t, err)
	eth0 := h.links["eth0"]
	eth0.MTU = 9000
	h.links["eth0"] = eth0
	h.engine.LinkChanged(t.Context(), "eth0", true, false)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	if vlan, link := h.links["eth0.50"], h.elsewhere[spec.EndpointAlias(epID(1))]; vlan.MTU != 9000 || link.MTU != 9000 {
		t.Errorf("MTU of the VLAN %d, of the container %d, want 9000", vlan.MTU, link.MTU)
	}
}

// A VLAN that was made to probe on goes where the network is refused.
func TestVLANOfARefusedNetwork(t *testing.T) {
	h := newHost(t)
	h.onLink["eth0.50"] = nil
	pristine := h.snapshot()
	for _, broken := range []string{"host: probe", "link: child"} {
		h.broken = broken
		r := child(t, 1, "mode", "macvlan", "host_access", "on", "parent", "eth0.50")
		r.pools = []spec.PoolRequest{static("2001:db8:ff::/64")}
		if _, err := h.createNetwork(t.Context(), r); err == nil {
			t.Error("was accepted")
		}
		h.broken = ""
		sameWorld(t, broken, pristine, h.snapshot())
	}
}
