package engine_test

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

// What a network's containers are told, by its options.
func TestAdvertisements(t *testing.T) {
	lifetime := spec.Seconds(900)
	for _, tc := range []struct {
		name    string
		recipe  recipe
		want    func(*spec.Advertisement) // from what ra=auto says; nil: nothing is said
		nothing bool
	}{
		{name: "auto: no default route and no SLAAC, which Docker has seen to"},
		{name: "off", recipe: recipe{options: func(o *spec.Options) { o.RA = spec.SwitchOff }}, nothing: true},
		{name: "on: a default route that any other comes before", recipe: recipe{options: func(o *spec.Options) { o.RA = spec.SwitchOn }},
			want: func(a *spec.Advertisement) { a.RouterLifetime, a.Preference = 1800, spec.PreferenceLow }},
		{name: "a lifetime of the user's", recipe: recipe{options: func(o *spec.Options) { o.Advertise.Lifetime = &lifetime }},
			want: func(a *spec.Advertisement) { a.RouterLifetime, a.Preference = 900, spec.PreferenceLow }},
		{name: "SLAAC", recipe: recipe{options: func(o *spec.Options) { o.Advertise.Autonomous = true }},
			want: func(a *spec.Advertisement) { a.Prefixes[0].Autonomous = true }},
		{name: "SLAAC from the /64 alone", recipe: recipe{pools: []spec.PoolRequest{static("2001:db8:ff::/64"), static("2001:db8:fe::/80")},
			options: func(o *spec.Options) { o.Advertise.Autonomous = true }},
			want: func(a *spec.Advertisement) {
				a.Prefixes = append(a.Prefixes, a.Prefixes[0])
				a.Prefixes[0].Autonomous, a.Prefixes[1].Prefix = true, pfx("2001:db8:fe::/80")
			}},
		{name: "containers that do not reach each other are no neighbours", recipe: recipe{options: func(o *spec.Options) { o.ICC = false }},
			want: func(a *spec.Advertisement) { a.Prefixes[0].OnLink = false }},
		{name: "MTU and the rest", recipe: recipe{options: func(o *spec.Options) {
			o.MTU = 1400
			o.Advertise = spec.RAOptions{DNS: []netip.Addr{ip("2001:db8::53")}, Search: []string{"example.org"}, PREF64: pfx("64:ff9b::/96"), CaptivePortal: "https://p.example/"}
		}}, want: func(a *spec.Advertisement) {
			a.MTU, a.CaptivePortal = 1400, "https://p.example/"
			a.DNS, a.Search, a.PREF64 = lasting(ip("2001:db8::53")), lasting("example.org"), lasting(pfx("64:ff9b::/96"))
		}},
		{name: "a part of the parent's prefix ends with it", recipe: recipe{pools: []spec.PoolRequest{auto6()}},
			want: func(a *spec.Advertisement) {
				a.Prefixes[0].Prefix, a.Prefixes[0].Upstream = pfx("2001:db8:1:0:789a::/80"), true
			}},
		{name: "nothing of the parent's routers", recipe: recipe{pools: []spec.PoolRequest{auto6()}, options: func(o *spec.Options) { o.Advertise.NoUpstream = true }},
			want: func(a *spec.Advertisement) {
				a.Upstream, a.Prefixes[0].Prefix = "", pfx("2001:db8:1:0:789a::/80")
			}},
		{name: "an internal network has no parent", recipe: recipe{internal: true},
			want: func(a *spec.Advertisement) { a.Upstream = "" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			if tc.recipe.pools == nil {
				tc.recipe.pools = []spec.PoolRequest{static("2001:db8:ff::/64")}
			}
			tc.recipe.id = netID(1)
			n, err := h.createNetwork(t.Context(), tc.recipe)
			must(t, err)
			want := map[string]spec.Advertisement{}
			if !tc.nothing {
				a := spec.Advertisement{Link: n.Bridge(), Source: spec.LinkLocalGateway(n.ID).Addr(), HopLimit: 64, MTU: 1500, Upstream: "eth0",
					Prefixes: []spec.AdvertisedPrefix{{Prefix: pfx("2001:db8:ff::/64"), OnLink: true, Valid: 5400, Preferred: 2700}}}
				if tc.want != nil {
					tc.want(&a)
				}
				want[n.Bridge()] = a
			}
			if diff := cmp.Diff(want, h.advertised, equateNetip); diff != "" {
				t.Errorf("advertised (-want +got):\n%s", diff)
			}
			if ra := h.engine.Status(t.Context()).Networks[0].RA; (ra == nil) != tc.nothing {
				t.Errorf("status shows %+v", ra)
			}
			// Addresses that hosts make are nobody's that the firewall knows by name.
			if got := len(h.ruleset.Set("autonomous6").Elements); (got > 0) != h.engine.Status(t.Context()).Networks[0].Options.Advertise.Autonomous {
				t.Errorf("the firewall knows %d pools of SLAAC hosts", got)
			}
			must(t, h.deleteNetwork(t.Context(), n))
			if !tc.nothing && !slices.Equal(h.farewells, []string{n.Bridge()}) || len(h.advertised) != 0 {
				t.Errorf("with the network gone: farewells on %v, still advertised %v", h.farewells, h.advertised)
			}
		})
	}
}

func lasting[T comparable](values ...T) (all []spec.Lasting[T]) {
	for _, v := range values {
		all = append(all, spec.Lasting[T]{Value: v, Lifetime: 1800})
	}
	return all
}

// The parent link is told of pools that are behind this host, and of no other.
func TestAnnouncedRoutes(t *testing.T) {
	ctx := t.Context()
	announce := func(o *spec.Options) { o.Advertise.Announce = true }
	h := newHost(t)
	routes := func() []netip.Prefix {
		var all []netip.Prefix
		for _, r := range h.advertised["eth0"].Routes {
			if r.Until.IsZero() {
				all = append(all, r.Prefix)
			}
		}
		return all
	}
	networks := map[string]spec.Network{}
	for _, r := range []struct {
		name   string
		recipe recipe
	}{
		{"routed", recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/64")}, options: announce}},
		{"on the link: found by neighbor discovery", recipe{id: netID(2), pools: []spec.PoolRequest{auto6()}, options: announce}},
		{"masqueraded: nobody outside may see it", recipe{id: netID(3), pools: []spec.PoolRequest{ula6()}, options: announce}},
		{"not asked for", recipe{id: netID(4), pools: []spec.PoolRequest{static("2001:db8:fe::/64")}}},
		{"routed, too", recipe{id: netID(5), pools: []spec.PoolRequest{static("2001:db8:fd::/64")}, options: announce}},
	} {
		n, err := h.createNetwork(ctx, r.recipe)
		must(t, err)
		networks[r.name] = n
	}
	want := []netip.Prefix{pfx("2001:db8:ff::/64"), pfx("2001:db8:fd::/64")}
	if got := routes(); !slices.Equal(got, want) {
		t.Fatalf("announced %v, want %v", got, want)
	}
	a := h.advertised["eth0"]
	if a.RouterLifetime != 0 || len(a.Prefixes) != 0 || a.MTU != 0 || a.HopLimit != 0 || a.Source.IsValid() {
		t.Errorf("the parent is told %+v, want routes alone: this host is no default router there", a)
	}
	if all := h.engine.Status(ctx).Parents; len(all) != 1 || all[0].Link != "eth0" {
		t.Errorf("status shows %+v", all)
	}

	// Another daemon goes on where this one ended.
	h.restart(t)
	if got := routes(); !slices.Equal(got, want) {
		t.Errorf("after a restart %v, want %v", got, want)
	}
	if len(h.farewells) != 0 {
		t.Errorf("a restart takes back what is said on %v", h.farewells)
	}

	if !slices.Equal(h.listened, []string{"eth0"}) {
		t.Errorf("routers are heard on %v, want the networks' parent", h.listened)
	}
	must(t, h.deleteNetwork(ctx, networks["routed"]))
	if got := routes(); !slices.Equal(got, want[1:]) {
		t.Errorf("after one is gone %v, want %v", got, want[1:])
	}
	if gone := h.advertised["eth0"].Routes[1]; gone.Prefix != want[0] || gone.Lifetime != 0 || gone.Until.Before(time.Now()) {
		t.Errorf("the one that is gone: %+v, want it withdrawn by name", gone)
	}
	must(t, h.deleteNetwork(ctx, networks["routed, too"]))
	if !slices.Contains(h.farewells, "eth0") || len(routes()) != 0 {
		t.Errorf("after all are gone: farewells on %v, announced %v", h.farewells, routes())
	}
}

// A daemon that starts knows nothing of what was announced but from the journal,
// and names all of it.
func TestInheritedAdvertisementIsTakenBackByName(t *testing.T) {
	h := newHost(t)
	before := spec.Advertisement{Link: "eth0", Routes: []spec.AdvertisedRoute{{Prefix: pfx("2001:db8:ff::/64"), Lifetime: 1800}}, DNS: lasting(ip("2001:db8::53"))}
	must(t, h.journal.PutAdvertised(before))
	h.restart(t)
	if !slices.Equal(h.farewells, []string{"eth0"}) {
		t.Fatalf("farewells on %v, want eth0", h.farewells)
	}
	if diff := cmp.Diff(before, h.inherited["eth0"], equateNetip); diff != "" {
		t.Errorf("handed over to those who take it back (-want +got):\n%s", diff)
	}
	a := h.takenBack["eth0"]
	if len(a.Routes) != 1 || a.Routes[0].Prefix != before.Routes[0].Prefix || a.Routes[0].Lifetime != 0 || a.Routes[0].Until.IsZero() || len(a.DNS) != 1 || a.DNS[0].Lifetime != 0 {
		t.Errorf("taken back %+v, want the route and the server by name", a)
	}
	h.restart(t)
	if len(h.farewells) != 1 {
		t.Errorf("the next start takes it back again: %v", h.farewells)
	}
}

// Neither a sysctl nor the firewall that fails keeps links from being told.
func TestAdvertisedDespiteOtherFaults(t *testing.T) {
	for _, call := range []string{"sysctl: get", "firewall: "} {
		t.Run(call, func(t *testing.T) {
			h := newHost(t)
			n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/64")}})
			must(t, err)
			h.world.mu.Lock()
			for key := range h.sysctls {
				delete(h.sysctls, key)
			}
			h.broken = call
			h.world.mu.Unlock()
			must(t, h.start(t.Context()))
			if _, told := h.advertised[n.Bridge()]; !told {
				t.Errorf("while %q fails, nothing is said on the bridge", call)
			}
			h.broken = ""
		})
	}
}

// RFC 9096 §3.5: a prefix that changed while no daemon ran is withdrawn by name,
// over further restarts, until nobody can use it any more.
func TestRenumberingIsRemembered(t *testing.T) {
	ctx := t.Context()
	h := newHost(t)
	n, err := h.createNetwork(ctx, recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/64")}})
	must(t, err)
	n.Phase, n.IPv6 = spec.PhaseReady, slices.Clone(n.IPv6)
	n.IPv6[0].Prefix, n.IPv6[0].Gateway = pfx("2001:db8:fe::/64"), ip("2001:db8:fe::1")
	must(t, h.journal.PutNetwork(n))

	for range 3 {
		h.restart(t)
		prefixes := h.advertised[n.Bridge()].Prefixes
		if len(prefixes) != 2 || prefixes[0].Prefix != pfx("2001:db8:fe::/64") || prefixes[0].Preferred != 2700 {
			t.Fatalf("advertised %+v, want the new prefix and the old one", prefixes)
		}
		old := prefixes[1]
		if old.Prefix != pfx("2001:db8:ff::/64") || old.Valid != 0 || old.Preferred != 0 || !old.OnLink {
			t.Errorf("the old prefix: %+v, want lifetimes of 0", old)
		}
		if left := time.Until(old.Until); left < 89*time.Minute || left > 90*time.Minute {
			t.Errorf("it is withdrawn for another %v, want 90 min: ND_VALID_LIMIT", left)
		}
	}
	// Later.
	a := h.advertised[n.Bridge()]
	a.Prefixes[1].Until = time.Now().UTC().Truncate(time.Second)
	text, err := json.Marshal(a)
	must(t, err)
	h.world.mu.Lock()
	h.world.journal[journalKey("advertised", n.Bridge())] = string(text)
	h.world.mu.Unlock()
	h.restart(t)
	if prefixes := h.advertised[n.Bridge()].Prefixes; len(prefixes) != 1 {
		t.Errorf("after 90 min %+v is advertised, want the new prefix alone", prefixes)
	}
}

// A default route that is away for a moment takes no announced route back; one that
// is on another link then does.
func TestAnnouncedRoutesOutliveTheDefaultRoute(t *testing.T) {
	ctx := t.Context()
	h := newHost(t)
	announce := func(o *spec.Options) { o.Advertise.Announce = true }
	_, err := h.createNetwork(ctx, recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/64")}, options: announce})
	must(t, err)
	before := h.advertised["eth0"]
	move := func(parent string) {
		h.world.mu.Lock()
		h.world.defaultParent = parent
		h.world.mu.Unlock()
		must(t, h.start(ctx))
	}
	move("")
	if diff := cmp.Diff(before, h.advertised["eth0"], equateNetip); diff != "" || len(h.farewells) != 0 {
		t.Errorf("without a default route: farewells on %v, and eth0 is told (-before +now):\n%s", h.farewells, diff)
	}
	move("eth0")
	if diff := cmp.Diff(before, h.advertised["eth0"], equateNetip); diff != "" || len(h.farewells) != 0 {
		t.Errorf("with it again: farewells on %v, and eth0 is told (-before +now):\n%s", h.farewells, diff)
	}
	move("")
	move("eth1")
	if !slices.Equal(h.farewells, []string{"eth0"}) || len(h.advertised["eth1"].Routes) != 1 {
		t.Errorf("on another link: farewells on %v, and it is told %+v", h.farewells, h.advertised["eth1"].Routes)
	}
}

// A network that comes or goes has its own bridge told, and what its parent is told of all
// that announce themselves there; nothing is said again on the bridges of others.
func TestNetworkComesAndGoesWithItsOwnAdvertisement(t *testing.T) {
	h := site(t, 3, 0)
	silent := func(what string, wanted ...string) {
		t.Helper()
		for _, link := range slices.Sorted(maps.Keys(h.advertised)) {
			if !slices.Contains(wanted, link) {
				t.Errorf("%s: link %s is told of it", what, link)
			}
		}
		if len(h.advertised) < len(wanted) {
			t.Errorf("%s: told are %v, want %v", what, slices.Collect(maps.Keys(h.advertised)), wanted)
		}
		clear(h.advertised)
	}
	clear(h.advertised)
	n, err := h.createNetwork(t.Context(), inTheSameSite(3))
	must(t, err)
	silent("a network comes", n.Bridge())
	must(t, h.engine.DeleteNetwork(t.Context(), n.ID))
	silent("a network goes")
	for i := range 2 {
		r := inTheSameSite(4 + i)
		r.options = func(o *spec.Options) { o.Advertise.Announce = true }
		_, err := h.createNetwork(t.Context(), r)
		must(t, err)
	}
	if routes := h.advertised["eth0"].Routes; len(routes) != 2 {
		t.Errorf("the parent is told of %v, want two networks' routes", routes)
	}
}
