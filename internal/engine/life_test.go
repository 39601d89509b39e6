package engine_test

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/store"
)

// The pools that the fake host's global ID leads to.
const (
	onLinkPool = "2001:db8:1:0:789a::/80"
	ulaPool    = "fd12:3456:789a::/64"
	pool4      = "172.24.154.0/24"
	nextHop    = "fe80::1:a000:0:10" // of network 1, by its ID
)

// ruleset is the table that the firewall must be, as text.
func ruleset(t testing.TB, c firewall.Config) string {
	t.Helper()
	r, err := firewall.Build(c)
	must(t, err)
	return r.String()
}

func TestLifeOfANetwork(t *testing.T) {
	h := newHost(t)
	journal, err := store.Open(filepath.Join(t.TempDir(), "v6net.db"))
	must(t, err)
	defer func() { must(t, journal.Close()) }()
	_, err = journal.GlobalID(func() ([5]byte, error) { return h.globalID, nil })
	must(t, err)
	h.journal = journal
	h.restart(t)
	pristine := h.snapshot()
	if pristine.Ruleset != "" {
		t.Errorf("ruleset without a network:\n%s", pristine.Ruleset)
	}
	empty, err := journal.Load()
	must(t, err)

	ctx := t.Context()

	n, err := h.createNetwork(ctx, dual(1))
	must(t, err)
	bridge, veth, peer := spec.BridgeName(netID(1)), spec.VethName(epID(1)), spec.SandboxName(epID(1))
	bridgeLink := fakeLink{Kind: "bridge", Alias: "v6net network " + netID(1), MTU: 1500, Up: true,
		Addrs: "[" + nextHop + "/64 2001:db8:1:0:789a::1/80 172.24.154.1/24]"}
	want := pristine
	want.Links = with(pristine.Links, bridge, bridgeLink)
	want.Sysctls = with(pristine.Sysctls,
		acceptRA0, "2", acceptRA1, "2", forwarding6, "1", forwarding4, "1", "net/ipv6/conf/default/forwarding", "1",
		"net/ipv6/conf/eth0/forwarding", "1", "net/ipv6/conf/eth1/forwarding", "1",
		"net/ipv6/conf/"+bridge+"/accept_ra", "0", "net/ipv6/conf/"+bridge+"/accept_dad", "0", "net/ipv6/conf/"+bridge+"/disable_ipv6", "0", "net/ipv6/conf/"+bridge+"/forwarding", "1",
		"net/ipv4/conf/default/forwarding", "1", "net/ipv4/conf/"+bridge+"/route_localnet", "1",
		"net/ipv4/conf/"+bridge+"/arp_ignore", "0", "net/ipv4/conf/"+bridge+"/arp_announce", "0")
	network := firewall.Network{
		ID: netID(1), Bridge: bridge, Isolate: true, ICC: true, Inbound: spec.InboundPublished,
		Pools: []netip.Prefix{pfx(onLinkPool), pfx(pool4)}, Masquerade: []netip.Prefix{pfx(pool4)},
		Gateways: []netip.Addr{ip("2001:db8:1:0:789a::1"), ip("172.24.154.1")},
	}
	config := func() firewall.Config {
		return firewall.Config{Parents: []string{"eth0"}, Networks: []firewall.Network{network}}
	}
	want.Ruleset = ruleset(t, config())
	want.Advertised = map[string]string{bridge: `{"link":"` + bridge + `","source":"` + nextHop + `","router_lifetime":0,"hop_limit":64,"mtu":1500,` +
		`"prefixes":[{"prefix":"` + onLinkPool + `","on_link":true,"autonomous":false,"valid":5400,"preferred":2700,"upstream":true}],"upstream":"eth0"}`}
	sameWorld(t, "after create", want, h.snapshot())

	a := &attachment{id: epID(1)}
	ep, err := h.lease(ctx, n, a)
	must(t, err)
	made, err := h.engine.CreateEndpoint(ctx, ep)
	must(t, err)
	if mac := spec.EndpointMAC(n.ID, ep.IPv6.Addr()).String(); made.MAC != mac || made.IPv6 != pfx("2001:db8:1:0:789a::2/80") || made.IPv4 != pfx("172.24.154.2/24") {
		t.Errorf("endpoint %+v, want MAC %s and each pool's second address", made, mac)
	}
	alias := "v6net endpoint " + epID(1)
	want.Links = with(want.Links,
		veth, fakeLink{Kind: "veth", Alias: alias, MTU: 1500, Master: bridge, Peer: peer, Up: true, Guarded: true, Judged: true},
		peer, fakeLink{Kind: "veth", Alias: alias, MTU: 1500, MAC: made.MAC, Peer: veth})
	beforeEndpoint := want.Sysctls
	for link, silent := range map[string]string{veth: "1", peer: "0"} {
		want.Sysctls = with(want.Sysctls, "net/ipv6/conf/"+link+"/disable_ipv6", silent, "net/ipv6/conf/"+link+"/accept_ra", "1", "net/ipv6/conf/"+link+"/accept_dad", "1", "net/ipv6/conf/"+link+"/forwarding", "1", "net/ipv4/conf/"+link+"/route_localnet", "0",
			"net/ipv4/conf/"+link+"/arp_ignore", "0", "net/ipv4/conf/"+link+"/arp_announce", "0")
	}
	network.Live = made.Addresses()
	network.Containers = []firewall.Container{{Name: "endpoint " + epID(1)[:12], Port: veth, MAC: made.MAC, Addresses: made.Addresses()}}
	want.Ruleset = ruleset(t, config())
	want.Proxied = map[string]bool{"eth0 2001:db8:1:0:789a::2": true}
	sameWorld(t, "after CreateEndpoint", want, h.snapshot())

	attached, err := h.engine.Join(ctx, n.ID, a.id, "/run/sandbox")
	must(t, err)
	if diff := cmp.Diff(spec.Attachment{Interface: peer, Prefix: "eth", Gateway4: ip("172.24.154.1"), Gateway6: ip(nextHop)}, attached, equateNetip); diff != "" {
		t.Errorf("Join (-want +got):\n%s", diff)
	}
	sameWorld(t, "after Join", want, h.snapshot())

	must(t, h.engine.Publish(ctx, n.ID, a.id, []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}))
	network.Published = []firewall.Published{
		{Protocol: "tcp", Container: ip("2001:db8:1:0:789a::2"), Port: 80},
		{Protocol: "tcp", Container: ip("172.24.154.2"), Port: 80, HostPort: 8080},
	}
	closed := want.Ruleset
	want.Ruleset = ruleset(t, config())
	sameWorld(t, "after Publish", want, h.snapshot())

	must(t, h.engine.Leave(ctx, n.ID, a.id))
	want.Ruleset = closed
	sameWorld(t, "after Leave", want, h.snapshot())

	must(t, h.engine.DeleteEndpoint(ctx, n.ID, a.id))
	want.Links, want.Sysctls, want.Proxied = with(pristine.Links, bridge, bridgeLink), beforeEndpoint, map[string]bool{}
	network.Live, network.Published, network.Containers = nil, nil, nil
	want.Ruleset = ruleset(t, config())
	sameWorld(t, "after DeleteEndpoint", want, h.snapshot())
	for pool, addr := range a.leases {
		must(t, h.engine.ReleaseAddress(ctx, pool, addr))
	}

	must(t, h.deleteNetwork(ctx, n))
	sameWorld(t, "after delete", pristine, h.snapshot())
	left, err := journal.Load()
	must(t, err)
	if diff := cmp.Diff(empty, left, equateNetip); diff != "" {
		t.Errorf("journal after delete (-want +got):\n%s", diff)
	}
}

// with is a copy of a map with some entries set, given as key, value, key, value.
func with[V any](m map[string]V, pairs ...any) map[string]V {
	out := make(map[string]V, len(m))
	for k, v := range m {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1].(V)
	}
	return out
}

func TestKindsOfNetworks(t *testing.T) {
	for _, tc := range []struct {
		name       string
		recipe     recipe
		attachment spec.Attachment
		proxied    string // link
		whole      string // link and prefix, all of which is answered for
		sysctls    bool   // some are changed
		mtu        int
		isolated   bool
		addrs      string
	}{
		{name: "ULA is masqueraded and not proxied", recipe: recipe{pools: []spec.PoolRequest{ula6()}},
			attachment: spec.Attachment{Gateway6: ip(nextHop)}, sysctls: true, mtu: 1500, addrs: "[" + nextHop + "/64 fd12:3456:789a::1/64]"},
		{name: "internal: no way out and nothing of the host's", recipe: recipe{pools: []spec.PoolRequest{auto4(), ula6()}, internal: true},
			mtu: 1500, addrs: "[" + nextHop + "/64 fd12:3456:789a::1/64 172.24.154.1/24]"},
		{name: "routed static prefix", recipe: recipe{pools: []spec.PoolRequest{static("2001:db8:ff::/64")}},
			attachment: spec.Attachment{Gateway6: ip(nextHop)}, sysctls: true, mtu: 1500, addrs: "[" + nextHop + "/64 2001:db8:ff::1/64]"},
		{name: "ndproxy=on answers for a routed prefix too", recipe: recipe{pools: []spec.PoolRequest{static("2001:db8:ff::/64")},
			options: func(o *spec.Options) { o.NDProxy = spec.SwitchOn }},
			attachment: spec.Attachment{Gateway6: ip(nextHop)}, proxied: "eth0", sysctls: true, mtu: 1500, addrs: "[" + nextHop + "/64 2001:db8:ff::1/64]"},
		{name: "ndproxy=prefix answers for all of it", recipe: recipe{pools: []spec.PoolRequest{auto6()}, options: func(o *spec.Options) { o.NDProxy = spec.SwitchPrefix }},
			attachment: spec.Attachment{Gateway6: ip(nextHop)}, proxied: "eth0", whole: "eth0 2001:db8:1:0:789a::/80", sysctls: true, mtu: 1500, addrs: "[" + nextHop + "/64 2001:db8:1:0:789a::1/80]"},
		{name: "ndproxy=off answers for none", recipe: recipe{pools: []spec.PoolRequest{auto6()}, options: func(o *spec.Options) { o.NDProxy = spec.SwitchOff }},
			attachment: spec.Attachment{Gateway6: ip(nextHop)}, sysctls: true, mtu: 1500, addrs: "[" + nextHop + "/64 2001:db8:1:0:789a::1/80]"},
		{name: "another parent brings its MTU", recipe: recipe{pools: []spec.PoolRequest{ula6()}, options: func(o *spec.Options) { o.Parent = "eth1" }},
			attachment: spec.Attachment{Gateway6: ip(nextHop)}, sysctls: true, mtu: 1400, addrs: "[" + nextHop + "/64 fd12:3456:789a::1/64]"},
		{name: "Docker's keys", recipe: recipe{pools: []spec.PoolRequest{auto4(), ula6()}, options: func(o *spec.Options) {
			o.ICC, o.Inhibit4, o.MTU, o.InterfacePrefix = false, true, 1300, "net"
		}}, attachment: spec.Attachment{Prefix: "net", Gateway4: ip("172.24.154.1"), Gateway6: ip(nextHop)}, sysctls: true, mtu: 1300, isolated: true, addrs: "[" + nextHop + "/64 fd12:3456:789a::1/64]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			pristine := h.snapshot()
			tc.recipe.id = netID(1)
			n, err := h.createNetwork(t.Context(), tc.recipe)
			must(t, err)
			if changed := h.sysctls[forwarding6] == "1"; changed != tc.sysctls {
				t.Errorf("forwarding is on: %t, want %t", changed, tc.sysctls)
			}
			a := &attachment{id: epID(1)}
			ep, err := h.lease(t.Context(), n, a)
			must(t, err)
			_, err = h.engine.CreateEndpoint(t.Context(), ep)
			must(t, err)
			got, err := h.engine.Join(t.Context(), n.ID, a.id, "/run/sandbox")
			must(t, err)
			h.moveIn(a.id)
			want := tc.attachment
			want.Interface = spec.SandboxName(a.id)
			if want.Prefix == "" {
				want.Prefix = "eth"
			}
			if diff := cmp.Diff(want, got, equateNetip); diff != "" {
				t.Errorf("Join (-want +got):\n%s", diff)
			}
			bridge, veth := h.links[n.Bridge()], h.links[spec.VethName(a.id)]
			if bridge.MTU != tc.mtu || veth.MTU != tc.mtu || bridge.Addrs != tc.addrs || veth.Isolated != tc.isolated {
				t.Errorf("bridge %+v, veth %+v, want MTU %d, addresses %s, isolated %t", bridge, veth, tc.mtu, tc.addrs, tc.isolated)
			}
			proxied := map[string]bool{}
			if tc.proxied != "" {
				proxied[tc.proxied+" "+ep.IPv6.Addr().String()] = true
			}
			if tc.whole != "" {
				proxied[tc.whole] = true
			}
			if diff := cmp.Diff(proxied, h.proxied); diff != "" {
				t.Errorf("proxied (-want +got):\n%s", diff)
			}
			h.consistent(t, "running")
			must(t, h.stop(t.Context(), *a))
			must(t, h.deleteNetwork(t.Context(), n))
			sameWorld(t, "after delete", pristine, h.snapshot())
		})
	}
}

// The container engine repeats calls whose answer it has not seen.
func TestEveryCallTwice(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(map[bool]string{false: "same daemon", true: "restarted between"}[restart], func(t *testing.T) {
			h := newHost(t)
			pristine := h.snapshot()
			ctx := t.Context()
			n, err := h.createNetwork(ctx, dual(1))
			must(t, err)
			a := &attachment{id: epID(1)}
			var ep spec.Endpoint
			twice := func(what string, call func() error) {
				t.Helper()
				if err := call(); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if restart {
					h.restart(t) // takes leases without an endpoint back
				}
				first := h.snapshot()
				if err := call(); err != nil {
					t.Errorf("%s, the second time: %v", what, err)
				}
				sameWorld(t, what+", the second time", first, h.snapshot())
			}
			twice("CreateNetwork", func() error { return h.engine.CreateNetwork(ctx, clone(n)) })
			ep, err = h.lease(ctx, n, a)
			must(t, err)
			var made []spec.Endpoint
			twice("CreateEndpoint", func() error {
				got, err := h.engine.CreateEndpoint(ctx, ep)
				made = append(made, got)
				return err
			})
			if diff := cmp.Diff(made[0], made[1], equateNetip); diff != "" {
				t.Errorf("CreateEndpoint answered differently the second time:\n%s", diff)
			}
			twice("Join", func() error {
				_, err := h.engine.Join(ctx, n.ID, a.id, "/run/sandbox")
				h.moveIn(a.id)
				return err
			})
			twice("Publish", func() error {
				return h.engine.Publish(ctx, n.ID, a.id, []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 80}})
			})
			twice("Unpublish", func() error { return h.engine.Unpublish(ctx, n.ID, a.id) })
			twice("Leave", func() error { return h.engine.Leave(ctx, n.ID, a.id) })
			twice("DeleteEndpoint", func() error { return gone(h.engine.DeleteEndpoint(ctx, n.ID, a.id)) })
			twice("ReleaseAddress", func() error { return gone(h.engine.ReleaseAddress(ctx, onLinkPool, ep.IPv6.Addr())) })
			must(t, gone(h.engine.ReleaseAddress(ctx, pool4, ep.IPv4.Addr())))
			twice("DeleteNetwork", func() error { return gone(h.engine.DeleteNetwork(ctx, n.ID)) })
			twice("ReleasePool", func() error { return gone(h.engine.ReleasePool(ctx, onLinkPool)) })
			must(t, h.releasePools(ctx, n))
			sameWorld(t, "after all", pristine, h.snapshot())
		})
	}
}

// A network whose pools another IPAM driver chose is the same network the second
// time, though its own bridge is in the way of its subnet by then.
func TestNetworkOfAnotherIPAMDriverTwice(t *testing.T) {
	h := newHost(t)
	n := spec.Network{ID: netID(1), Options: spec.DefaultOptions(),
		IPv6: []spec.Subnet{{Prefix: pfx("2001:db8:1:0:5::/80"), Gateway: ip("2001:db8:1:0:5::1")}}}
	for i := range 3 {
		if i == 2 {
			h.restart(t)
		}
		if err := h.engine.CreateNetwork(t.Context(), clone(n)); err != nil {
			t.Fatalf("time %d: %v", i+1, err)
		}
	}
	if s := h.engine.Status(t.Context()).Networks[0].IPv6[0]; !s.OnLink || s.Parent != "eth0" {
		t.Errorf("subnet %+v, want it on-link on eth0: nobody would answer for its addresses", s)
	}
}

func TestUnknownObjects(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	ctx, before := t.Context(), h.snapshot()
	unknown := spec.Endpoint{ID: epID(1), NetworkID: netID(2), IPv6: pfx("2001:db8::2/64")}
	for what, call := range map[string]func() error{
		"DeleteNetwork":                        func() error { return h.engine.DeleteNetwork(ctx, netID(2)) },
		"CreateEndpoint":                       func() error { _, err := h.engine.CreateEndpoint(ctx, unknown); return err },
		"DeleteEndpoint":                       func() error { return h.engine.DeleteEndpoint(ctx, n.ID, epID(1)) },
		"DeleteEndpoint of an unknown network": func() error { return h.engine.DeleteEndpoint(ctx, netID(2), epID(1)) },
		"Endpoint":                             func() error { _, err := h.engine.Endpoint(ctx, n.ID, epID(1)); return err },
		"Join":                                 func() error { _, err := h.engine.Join(ctx, n.ID, epID(1), "s"); return err },
		"Join of a network":                    func() error { _, err := h.engine.Join(ctx, netID(2), epID(1), "s"); return err },
		"Leave":                                func() error { return h.engine.Leave(ctx, n.ID, epID(1)) },
		"Publish":                              func() error { return h.engine.Publish(ctx, n.ID, epID(1), nil) },
		"Unpublish":                            func() error { return h.engine.Unpublish(ctx, n.ID, epID(1)) },
		"ReleasePool":                          func() error { return h.engine.ReleasePool(ctx, "fd00::/64") },
		"RequestAddress":                       func() error { _, err := h.engine.RequestAddress(ctx, "fd00::/64", netip.Addr{}, false); return err },
		"ReleaseAddress of a pool":             func() error { return h.engine.ReleaseAddress(ctx, "fd00::/64", ip("fd00::1")) },
		"ReleaseAddress":                       func() error { return h.engine.ReleaseAddress(ctx, onLinkPool, ip("2001:db8:1:0:789a::9")) },
		"ReleaseAddress of outside":            func() error { return h.engine.ReleaseAddress(ctx, onLinkPool, ip("2001:db8::9")) },
	} {
		if err := call(); !errors.Is(err, spec.ErrNotFound) {
			t.Errorf("%s: %v, want an error that matches ErrNotFound", what, err)
		}
	}
	sameWorld(t, "unknown objects", before, h.snapshot())
}

// An endpoint is found under its own network alone.
func TestEndpointOfAnotherNetwork(t *testing.T) {
	h := newHost(t)
	n1, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	n2, err := h.createNetwork(t.Context(), dual(2))
	must(t, err)
	must(t, h.run(t.Context(), n1, &attachment{id: epID(1)}))
	if err := h.engine.DeleteEndpoint(t.Context(), n2.ID, epID(1)); !errors.Is(err, spec.ErrNotFound) {
		t.Errorf("delete network 1's endpoint through network 2: %v, want ErrNotFound", err)
	}
}

// A network whose deletion failed half-way takes no more containers: the next
// start would finish the deletion and cut them off.
func TestHalfDeletedNetworkTakesNoContainers(t *testing.T) {
	h := newHost(t)
	pristine := h.snapshot()
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{ula6()}})
	must(t, err)
	h.arm(fault{at: 2, mode: failBefore})
	if err := h.engine.DeleteNetwork(t.Context(), n.ID); !errors.Is(err, errFault) {
		t.Fatalf("DeleteNetwork = %v, want the injected fault", err)
	}
	h.disarm()
	if err := h.run(t.Context(), n, &attachment{id: epID(1)}); err == nil || !strings.Contains(err.Error(), "delete it again") {
		t.Errorf("a container on it: %v, want a refusal that says what to do", err)
	}
	must(t, h.deleteNetwork(t.Context(), n))
	sameWorld(t, "after the second try", pristine, h.snapshot())
}
