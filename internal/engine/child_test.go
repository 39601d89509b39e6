package engine_test

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

// with options as the user gives them, so that the mode's own defaults hold.
func given(t testing.TB, keysAndValues ...string) func(*spec.Options) {
	t.Helper()
	raw := map[string]string{}
	for i := 0; i < len(keysAndValues); i += 2 {
		raw[keysAndValues[i]] = keysAndValues[i+1]
	}
	o, err := spec.ParseOptions(raw)
	must(t, err)
	return func(to *spec.Options) { *to = o }
}

func child(t testing.TB, n int, options ...string) recipe {
	t.Helper()
	return recipe{id: netID(n), pools: []spec.PoolRequest{auto6()}, options: given(t, options...)}
}

// aliases are the marks of the links of ours, by name.
func (h *host) aliases() map[string]string {
	marks := map[string]string{}
	for name, l := range h.links {
		if strings.HasPrefix(l.Alias, spec.LinkAliasMark) {
			marks[name] = l.Alias
		}
	}
	return marks
}

// A macvlan network needs nothing of the host but its containers' links: no
// bridge, no rules, no forwarding.
func TestLifeOfAMacvlanNetwork(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	pristine := h.snapshot()
	n, err := h.createNetwork(ctx, child(t, 1, "mode", "macvlan"))
	must(t, err)
	want := pristine
	want.Journal = h.snapshot().Journal
	sameWorld(t, "after create: there is no trace but in the journal", want, h.snapshot())

	a := &attachment{id: epID(1)}
	ep, err := h.lease(ctx, n, a)
	must(t, err)
	made, err := h.engine.CreateEndpoint(ctx, ep)
	must(t, err)
	name := spec.SandboxName(epID(1))
	if got, want := h.links[name], (fakeLink{Kind: "macvlan", Alias: spec.EndpointAlias(epID(1)), Parent: "eth0", Mode: "bridge", MTU: 1500, MAC: made.MAC, Guarded: true}); got != want {
		t.Errorf("link %+v, want %+v", got, want)
	}
	attached, err := h.engine.Join(ctx, n.ID, a.id, "/run/sandbox")
	must(t, err)
	if diff := cmp.Diff(spec.Attachment{Interface: name, Prefix: "eth", Gateway6: ip("fe80::99"), Routes: []netip.Prefix{pfx("2001:db8:1::/64")}}, attached, equateNetip); diff != "" {
		t.Errorf("Join: want the upstream router as next hop (-want +got):\n%s", diff)
	}
	h.moveIn(a.id)
	h.engine.LinkChanged(ctx, name, false, true)
	want1 := []string{"2001:db8:1:0:789a::2 → [eth0]"}
	if got := h.heard(t); !slices.Equal(got, want1) {
		t.Errorf("announced %v when it was moved, want %v", got, want1)
	}
	h.engine.DoChores(ctx, time.Now().Add(2*time.Second)) // it is up by then
	if got := h.heard(t); !slices.Equal(got, want1) {
		t.Errorf("announced %v a second later, want %v", got, want1)
	}
	h.restart(t)
	if _, err := h.engine.Endpoint(ctx, n.ID, a.id); err != nil {
		t.Errorf("a start forgot the endpoint of a running container: %v", err)
	}
	h.consistent(t, "running")
	must(t, h.stop(ctx, *a))
	must(t, h.deleteNetwork(ctx, n))
	sameWorld(t, "at the end", pristine, h.snapshot())
}

// Where a container's link is gone, or back on the host, a start drops the endpoint.
func TestMacvlanContainersThatEndedMeanwhile(t *testing.T) {
	for name, end := range map[string]func(h *host){
		"gone": func(h *host) { clear(h.elsewhere) },
		"back": func(h *host) { h.moveOut(epID(1)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			n, err := h.createNetwork(t.Context(), child(t, 1, "mode", "macvlan"))
			must(t, err)
			must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
			end(h)
			h.restart(t)
			if _, err := h.engine.Endpoint(t.Context(), n.ID, epID(1)); err == nil || len(h.aliases()) > 0 {
				t.Errorf("endpoint: %v, links %v, want none", err, h.aliases())
			}
		})
	}
}

// A container that runs while its endpoint is deleted loses its link.
func TestMacvlanDeletedRunning(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), child(t, 1, "mode", "macvlan"))
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	must(t, h.engine.DeleteEndpoint(t.Context(), n.ID, epID(1)))
	if len(h.elsewhere) > 0 {
		t.Errorf("the container keeps %v", h.elsewhere)
	}
}

func TestGatewaysOnTheParent(t *testing.T) {
	link := []netip.Prefix{pfx("2001:db8:1::/64")} // of which auto6 is a part
	for _, tc := range []struct {
		name     string
		options  []string
		pools    []spec.PoolRequest
		gateways []string
		routers  []netip.Addr // of eth0
		internal bool
		want     spec.Attachment
	}{
		{name: "learned", pools: []spec.PoolRequest{auto6()}, routers: []netip.Addr{ip("fe80::99")}, want: spec.Attachment{Gateway6: ip("fe80::99"), Routes: link}},
		{name: "learned, global", pools: []spec.PoolRequest{auto6()}, routers: []netip.Addr{ip("2001:db8:1::1")},
			want: spec.Attachment{Gateway6: ip("2001:db8:1::1"), Routes: link}},
		{name: "learned, of another prefix", pools: []spec.PoolRequest{auto6()}, routers: []netip.Addr{ip("2001:db8:2::1")},
			want: spec.Attachment{Gateway6: ip("2001:db8:2::1"), Routes: append(slices.Clone(link), pfx("2001:db8:2::1/128"))}},
		{name: "none there", pools: []spec.PoolRequest{auto6()}, want: spec.Attachment{Routes: link}},
		{name: "named", pools: []spec.PoolRequest{static("2001:db8:ff::/64")}, gateways: []string{"2001:db8:ff::fe"}, routers: []netip.Addr{ip("fe80::99")},
			want: spec.Attachment{Gateway6: ip("2001:db8:ff::fe")}},
		{name: "containers listen themselves", options: []string{"ra", "on"}, pools: []spec.PoolRequest{auto6()}, routers: []netip.Addr{ip("fe80::99")}, want: spec.Attachment{Routes: link}},
		{name: "internal", internal: true, pools: []spec.PoolRequest{ula6(), auto4()}},
		{name: "IPv4, learned", pools: []spec.PoolRequest{auto6(), static("192.0.2.0/24")}, routers: []netip.Addr{ip("fe80::99"), ip("192.0.2.9")},
			want: spec.Attachment{Gateway6: ip("fe80::99"), Gateway4: ip("192.0.2.9"), Routes: link}},
		{name: "IPv4, named", pools: []spec.PoolRequest{auto6(), static("192.0.2.0/24")}, gateways: []string{"", "192.0.2.254"}, routers: []netip.Addr{ip("192.0.2.9")},
			want: spec.Attachment{Gateway4: ip("192.0.2.254"), Routes: link}},
		{name: "IPv4, private: the engine's own", pools: []spec.PoolRequest{auto6(), auto4()}, routers: []netip.Addr{ip("192.0.2.9")},
			want: spec.Attachment{Gateway4: ip("172.24.154.1"), Routes: link}},
		{name: "ipvlan l2", options: []string{"mode", "ipvlan"}, pools: []spec.PoolRequest{auto6()}, routers: []netip.Addr{ip("fe80::99")}, want: spec.Attachment{Gateway6: ip("fe80::99"), Routes: link}},
		{name: "ipvlan l3", options: []string{"mode", "ipvlan", "ipvlan_mode", "l3"}, pools: []spec.PoolRequest{auto6(), auto4()}, routers: []netip.Addr{ip("fe80::99")},
			want: spec.Attachment{Routes: []netip.Prefix{pfx("::/0"), pfx("0.0.0.0/0")}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.routers = map[string][]netip.Addr{"eth0": tc.routers}
			r := child(t, 1, append([]string{"mode", "macvlan"}, tc.options...)...)
			r.pools, r.gateways, r.internal = tc.pools, tc.gateways, tc.internal
			n, err := h.createNetwork(t.Context(), r)
			must(t, err)
			ep, err := h.lease(t.Context(), n, &attachment{id: epID(1)})
			must(t, err)
			_, err = h.engine.CreateEndpoint(t.Context(), ep)
			must(t, err)
			got, err := h.engine.Join(t.Context(), n.ID, epID(1), "/run/sandbox")
			must(t, err)
			tc.want.Interface, tc.want.Prefix = spec.SandboxName(epID(1)), "eth"
			if diff := cmp.Diff(tc.want, got, equateNetip); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// On the parent's own subnet no container gets an address that this host or its
// router has, nor one that another host answers for.
func TestChildrenShareTheLinksPrefix(t *testing.T) {
	h := newHost(t)
	h.routes = append(h.routes, pfx("192.0.2.2/32"))
	h.foreign[ip("2001:db8:1::1")], h.foreign[ip("2001:db8:1::3")] = true, true
	r := child(t, 1, "mode", "macvlan")
	r.pools = []spec.PoolRequest{static("2001:db8:1::/64"), static("192.0.2.0/24")}
	r.gateways = []string{"2001:db8:1::1", "192.0.2.1"}
	n, err := h.createNetwork(t.Context(), r)
	must(t, err)
	for _, want := range []struct{ v6, v4 string }{{"2001:db8:1::2/64", "192.0.2.3/24"}, {"2001:db8:1::4/64", "192.0.2.4/24"}} {
		ep, err := h.lease(t.Context(), n, &attachment{id: epID(1)})
		must(t, err)
		if ep.IPv6 != pfx(want.v6) || ep.IPv4 != pfx(want.v4) {
			t.Errorf("addresses %s and %s, want the next that are nobody's, %+v", ep.IPv6, ep.IPv4, want)
		}
		h.restart(t) // finds out again what the host has
	}
}

// An internal network has no parent but a cable of its own.
func TestInternalMacvlan(t *testing.T) {
	h := newHost(t)
	pristine := h.snapshot()
	r := child(t, 1, "mode", "macvlan")
	r.internal, r.pools = true, []spec.PoolRequest{ula6()}
	n, err := h.createNetwork(t.Context(), r)
	must(t, err)
	a := &attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, a))
	if l := h.elsewhere[spec.EndpointAlias(epID(1))]; l.Parent != spec.PairName(netID(1)) {
		t.Errorf("link %+v, want it on %s", l, spec.PairName(netID(1)))
	}
	if got := h.heard(t); len(got) > 0 {
		t.Errorf("announced %v, and there is nobody to be told", got)
	}
	h.engine.RoutesChanged(t.Context()) // is none of its business
	h.restart(t)
	h.consistent(t, "running")
	must(t, h.stop(t.Context(), *a))
	must(t, h.deleteNetwork(t.Context(), n))
	sameWorld(t, "at the end", pristine, h.snapshot())
}

// In l3 the host answers for containers, with the parent's address.
func TestIPvlanL3IsProxied(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), child(t, 1, "mode", "ipvlan", "ipvlan_mode", "l3"))
	must(t, err)
	a := &attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, a))
	if !h.proxied["eth0 2001:db8:1:0:789a::2"] || h.elsewhere[spec.EndpointAlias(epID(1))].Guarded {
		t.Errorf("proxied %v, link %+v", h.proxied, h.elsewhere)
	}
	ep, err := h.engine.Endpoint(t.Context(), n.ID, a.id)
	if err != nil || ep.MAC != "" {
		t.Errorf("endpoint %+v (%v), want no hardware address of its own", ep, err)
	}
	must(t, h.stop(t.Context(), *a))
	if len(h.proxied) > 0 {
		t.Errorf("still proxied: %v", h.proxied)
	}
}

// In l2 and with macvlan containers answer for themselves.
func TestChildrenAnswerForThemselves(t *testing.T) {
	for _, options := range [][]string{{"mode", "macvlan"}, {"mode", "ipvlan"}} {
		h := newHost(t)
		n, err := h.createNetwork(t.Context(), child(t, 1, options...))
		must(t, err)
		must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
		if len(h.proxied) > 0 {
			t.Errorf("%v: proxied %v", options, h.proxied)
		}
	}
}

// What a parent's link knows of containers may be lost while it is down.
func TestParentComesUp(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), child(t, 1, "mode", "macvlan"))
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	h.heard(t)
	for _, up := range []bool{true, false, true, true} {
		h.engine.LinkChanged(t.Context(), "eth0", up, false)
	}
	if got := h.heard(t); len(got) != 1 {
		t.Errorf("announced %v, want the address once", got)
	}
}

func TestEndpointRefusalsOnTheParent(t *testing.T) {
	h := newHost(t)
	passthru, err := h.createNetwork(t.Context(), child(t, 1, "mode", "macvlan", "macvlan_mode", "passthru"))
	must(t, err)
	must(t, h.run(t.Context(), passthru, &attachment{id: epID(1)}))
	if ep, _ := h.engine.Endpoint(t.Context(), passthru.ID, epID(1)); ep.MAC != "02:00:00:00:00:e0" {
		t.Errorf("MAC %s, want the parent's", ep.MAC)
	}
	if err := h.run(t.Context(), passthru, &attachment{id: epID(2)}); err == nil || !strings.Contains(err.Error(), "alone") {
		t.Errorf("second container in passthru mode: %v", err)
	}

	other := newHost(t)
	n, err := other.createNetwork(t.Context(), child(t, 1, "mode", "ipvlan"))
	must(t, err)
	ep, err := other.lease(t.Context(), n, &attachment{id: epID(1)})
	must(t, err)
	ep.MAC = "02:00:5e:10:00:01"
	if _, err := other.engine.CreateEndpoint(t.Context(), ep); err == nil || !strings.Contains(err.Error(), "parent eth0") {
		t.Errorf("MAC address of one's own with ipvlan: %v", err)
	}
	ep.MAC = ""
	_, err = other.engine.CreateEndpoint(t.Context(), ep)
	must(t, err)
	publish := func(p spec.Port) error {
		return other.engine.Publish(context.Background(), n.ID, epID(1), []spec.Port{p})
	}
	must(t, publish(spec.Port{Protocol: "tcp", Port: 80, HostPort: 80}))
	must(t, publish(spec.Port{Protocol: "tcp", Port: 80}))
	if err := publish(spec.Port{Protocol: "tcp", Port: 80, HostPort: 8080}); err == nil || !strings.Contains(err.Error(), "8080") || !strings.Contains(err.Error(), "translated") {
		t.Errorf("translated port: %v", err)
	}
	if err := publish(spec.Port{Protocol: "tcp", Port: 80, HostPort: 80, HostIP: ip("2001:db8:1::5")}); err == nil || !strings.Contains(err.Error(), "2001:db8:1::5") {
		t.Errorf("host address: %v", err)
	}
	if len(slices.Collect(maps.Keys(other.aliases()))) != 1 || other.ruleset != nil {
		t.Errorf("links %v, ruleset %v", other.aliases(), other.ruleset)
	}
}
