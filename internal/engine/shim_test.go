package engine_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

func TestHostAccess(t *testing.T) {
	for _, tc := range []struct {
		name     string
		options  []string
		pool     string
		gateway  string
		hostHas  string
		endpoint string
	}{
		{name: "macvlan", options: []string{"mode", "macvlan"}, pool: "2001:db8:ff::/64", hostHas: "2001:db8:ff::1", endpoint: "2001:db8:ff::2"},
		{name: "beside a router that is named", options: []string{"mode", "macvlan"}, pool: "2001:db8:ff::/64", gateway: "2001:db8:ff::1", hostHas: "2001:db8:ff::2", endpoint: "2001:db8:ff::3"},
		{name: "ipvlan", options: []string{"mode", "ipvlan", "ipvlan_mode", "l3"}, pool: "2001:db8:ff::/64", hostHas: "2001:db8:ff::1", endpoint: "2001:db8:ff::2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			r := child(t, 1, append(tc.options, "host_access", "on")...)
			r.pools, r.gateways = []spec.PoolRequest{static(tc.pool)}, []string{tc.gateway}
			n, err := h.createNetwork(t.Context(), r)
			must(t, err)
			must(t, h.engine.CreateNetwork(t.Context(), clone(n))) // the same again
			shim := spec.ShimName(netID(1))
			if _, there := h.links[shim]; there {
				t.Error("there is a shim before there is a container")
			}
			a, b := &attachment{id: epID(1)}, &attachment{id: epID(2)}
			must(t, h.run(t.Context(), n, a))
			must(t, h.run(t.Context(), n, b))
			second := netip.MustParseAddr(tc.endpoint).Next().String()
			if l := h.links[shim]; !l.Up || l.Addrs != "["+tc.hostHas+"/128]" || l.Routes != fmt.Sprintf("[%s %s]", tc.endpoint, second) {
				t.Errorf("shim %+v, want it up with %s, and routes to %s and %s", l, tc.hostHas, tc.endpoint, second)
			}
			if h.sysctls["net/ipv6/conf/"+shim+"/accept_ra"] != "0" {
				t.Error("the host takes advertisements on the shim")
			}
			if conf := "net/ipv4/conf/" + shim; h.sysctls[conf+"/arp_ignore"] != "1" || h.sysctls[conf+"/arp_announce"] != "2" {
				t.Error("the shim answers or asks for addresses that are the parent's")
			}
			h.restart(t)
			h.consistent(t, "running")
			must(t, h.stop(t.Context(), *a))
			if l := h.links[shim]; l.Routes != "["+second+"]" {
				t.Errorf("shim %+v, want one route left", l)
			}
			must(t, h.stop(t.Context(), *b))
			if len(h.aliases()) > 0 {
				t.Errorf("left after the last container: %v", h.aliases())
			}
		})
	}
}

func TestShimIsMadeAgain(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), child(t, 1, "mode", "macvlan", "host_access", "on"))
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	shim := spec.ShimName(n.ID)
	want := h.links[shim]
	h.remove(shim)
	h.engine.LinkChanged(t.Context(), shim, false, true)
	if got := h.links[shim]; got != want {
		t.Errorf("shim %+v, want %+v again", got, want)
	}
}

// The host does not take the router's address for its own.
func TestHostIsNotTheRouter(t *testing.T) {
	for _, tc := range []struct {
		name   string
		parent string
		pool   string
		change func(h *host)
		want   string
	}{
		{name: "IPv4", parent: "eth0", pool: "192.168.1.0/24", want: "192.168.1.2",
			change: func(h *host) { h.routers["eth0"] = []netip.Addr{ip("192.168.1.1"), ip("fe80::99")} }},
		{name: "IPv4, router elsewhere", parent: "eth0", pool: "192.168.1.0/24", want: "192.168.1.2",
			change: func(h *host) { h.routers["eth0"] = []netip.Addr{ip("192.168.1.254"), ip("fe80::99")} }},
		{name: "IPv6, known", parent: "eth0", pool: "2001:db8:ff::/64", want: "2001:db8:ff::2",
			change: func(h *host) { h.routers["eth0"] = []netip.Addr{ip("2001:db8:ff::1")} }},
		{name: "IPv6, on a VLAN that we make", parent: "eth0.50", pool: "2001:db8:ff::/64", want: "2001:db8:ff::2",
			change: func(h *host) { h.foreign[ip("2001:db8:ff::1")] = true }},
		{name: "IPv6, nobody's", parent: "eth0.50", pool: "2001:db8:ff::/64", want: "2001:db8:ff::1", change: func(*host) {}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.onLink["eth0.50"] = nil
			tc.change(h)
			pristine := h.snapshot()
			r := child(t, 1, "mode", "macvlan", "host_access", "on", "parent", tc.parent)
			r.pools = []spec.PoolRequest{static(tc.pool)}
			if ip(tc.want).Is4() {
				r.pools = append(r.pools, static("2001:db8:fe::/64"))
			}
			n, err := h.createNetwork(t.Context(), r)
			must(t, err)
			for _, s := range h.engine.Status(t.Context()).Networks[0].Subnets() {
				if s.Prefix == pfx(tc.pool) && s.Host != ip(tc.want) {
					t.Errorf("the host has %s, want %s", s.Host, tc.want)
				}
			}
			must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
			if got := h.links[spec.ShimName(n.ID)].Addrs; !strings.Contains(got, tc.want+"/") {
				t.Errorf("the shim has %s, want %s", got, tc.want)
			}
			h.consistent(t, "running")
			must(t, h.stop(t.Context(), attachment{network: n.ID, id: epID(1)}))
			must(t, h.deleteNetwork(t.Context(), n))
			sameWorld(t, "at the end", pristine, h.snapshot())
		})
	}
}

// The host's own link on a parent that is gone keeps no container from ending.
func TestEndpointsEndWithoutTheParent(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), child(t, 1, "mode", "macvlan", "host_access", "on"))
	must(t, err)
	a, b := &attachment{id: epID(1)}, &attachment{id: epID(2)}
	must(t, h.run(t.Context(), n, a))
	must(t, h.run(t.Context(), n, b))
	h.remove("eth0")
	if err := h.stop(t.Context(), *a); err != nil {
		t.Errorf("stop a container: %v", err)
	}
	if got := h.errors(t); len(got) != 1 || !strings.Contains(got[0], "eth0") {
		t.Errorf("degraded: %q, want the network", got)
	}
	must(t, h.stop(t.Context(), *b))
	h.addLink("eth0", fakeLink{Kind: "device", MTU: 1500, Up: true})
	h.engine.LinkChanged(t.Context(), "eth0", true, false)
	if got := h.errors(t); len(got) > 0 {
		t.Errorf("degraded with the parent: %q", got)
	}
}
