package engine_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// TestRefusals has a host with a dual-stack network 1 on which container 1 runs
// with host port 8080, and an IPv6-only network 2 without ports. What is refused
// names its reason and leaves nothing behind, in the kernel or in the journal.
func TestRefusals(t *testing.T) {
	type call func(ctx context.Context, h *host, n1, n2 spec.Network) error
	create := func(change func(*spec.Network)) call {
		return func(ctx context.Context, h *host, _, _ spec.Network) error {
			n := spec.Network{ID: netID(3), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: pfx("2001:db8:ff::/64"), Gateway: ip("2001:db8:ff::1")}}}
			change(&n)
			return h.engine.CreateNetwork(ctx, n)
		}
	}
	attach := func(change func(*spec.Endpoint)) call {
		return func(ctx context.Context, h *host, n1, _ spec.Network) error {
			ep := spec.Endpoint{ID: epID(9), NetworkID: n1.ID, IPv6: pfx("2001:db8:1:0:789a::9/80")}
			change(&ep)
			_, err := h.engine.CreateEndpoint(ctx, ep)
			return err
		}
	}
	lease := func(want string, gateway bool) call {
		return func(ctx context.Context, h *host, n1, _ spec.Network) error {
			_, err := h.engine.RequestAddress(ctx, n1.IPv6[0].Prefix.String(), ip(want), gateway)
			return err
		}
	}
	publish := func(endpoint int, ports ...spec.Port) call {
		return func(ctx context.Context, h *host, n1, n2 spec.Network) error {
			return h.engine.Publish(ctx, map[int]string{1: n1.ID, 2: n1.ID, 3: n2.ID}[endpoint], epID(endpoint), ports)
		}
	}
	for _, tc := range []struct {
		name string
		call call
		says []string
	}{
		{"network: parent that does not exist", create(func(n *spec.Network) { n.Options.Parent = "eth9" }), []string{"a00000000030", "parent eth9"}},
		{"network: overlapping subnet", create(func(n *spec.Network) { n.IPv6[0] = spec.Subnet{Prefix: pfx("2001:db8:1:0:789a:8000::/81")} }),
			[]string{"a00000000030", "2001:db8:1:0:789a:8000::/81", "overlaps", "2001:db8:1:0:789a::/80"}},
		{"network: on the same pool", create(func(n *spec.Network) {
			n.IPv6[0] = spec.Subnet{Prefix: pfx(onLinkPool), Gateway: ip("2001:db8:1:0:789a::1")}
		}),
			[]string{"a00000000030", "overlaps network a00000000010"}},
		{"network: a subnet that the host has elsewhere", create(func(n *spec.Network) {
			n.IPv6[0] = spec.Subnet{Prefix: pfx("2001:db8:2::/64")}
			n.Options.Parent = "eth0"
		}),
			[]string{"2001:db8:2::/64", "overlaps"}},
		{"network: same ID, other subnet", create(func(n *spec.Network) { n.ID = netID(1) }), []string{"a00000000010", "exists already"}},
		{"network: parent mismatch", func(ctx context.Context, h *host, _, _ spec.Network) error {
			_, err := h.createNetwork(ctx, recipe{id: netID(3), pools: []spec.PoolRequest{auto6()}, options: func(o *spec.Options) { o.Parent = "eth1" }})
			return err
		}, []string{"on eth0", "not on parent eth1", "--ipam-opt parent=eth1"}},
		{"network: bridge of another network", create(func(n *spec.Network) { n.Options.BridgeName = spec.BridgeName(netID(1)) }), []string{"a00000000030", spec.BridgeName(netID(1))}},
		{"network: bridge is somebody's link", create(func(n *spec.Network) { n.Options.BridgeName = "eth1" }), []string{"a00000000030", "eth1", "not ours"}},
		{"network: short ID", create(func(n *spec.Network) { n.ID = "abc" }), []string{`"abc"`, "12 to 64"}},
		{"network: no IPv6", create(func(n *spec.Network) { n.IPv6 = nil }), []string{"--ipv6"}},
		{"network: gateway outside", create(func(n *spec.Network) { n.IPv6[0].Gateway = ip("2001:db8::1") }), []string{"gateway 2001:db8::1", "outside"}},

		{"endpoint: short ID", attach(func(ep *spec.Endpoint) { ep.ID = "e1" }), []string{`"e1"`, "12 to 64"}},
		{"endpoint: short network ID", attach(func(ep *spec.Endpoint) { ep.NetworkID = "n1" }), []string{"n1", "not found"}},
		{"endpoint: address outside the pool", attach(func(ep *spec.Endpoint) { ep.IPv6 = pfx("2001:db8:9::9/80") }), []string{"e00000000090", "2001:db8:9::9", "none of the network's subnets"}},
		{"endpoint: the gateway's address", attach(func(ep *spec.Endpoint) { ep.IPv6 = pfx("2001:db8:1:0:789a::1/80") }), []string{"2001:db8:1:0:789a::1", "gateway"}},
		{"endpoint: taken address", attach(func(ep *spec.Endpoint) { ep.IPv6 = pfx("2001:db8:1:0:789a::2/80") }), []string{"2001:db8:1:0:789a::2", "belongs to endpoint e00000000010"}},
		{"endpoint: same ID, other address", attach(func(ep *spec.Endpoint) { ep.ID = epID(1) }), []string{"e00000000010", "exists already"}},
		{"endpoint: interface name of another's", attach(func(ep *spec.Endpoint) { ep.ID = epID(1)[:12] + strings.Repeat("f", 52) }), []string{"v6nve0000000001"}},
		{"endpoint: no address", attach(func(ep *spec.Endpoint) { ep.IPv6 = netip.Prefix{} }), []string{"no address"}},
		{"endpoint: multicast MAC", attach(func(ep *spec.Endpoint) { ep.MAC = "01:00:5e:00:00:01" }), []string{"01:00:5e:00:00:01", "unicast"}},
		{"endpoint: no MAC", attach(func(ep *spec.Endpoint) { ep.MAC = "mac" }), []string{`"mac"`}},

		{"address outside the pool", lease("2001:db8:9::1", false), []string{"2001:db8:9::1", onLinkPool, "outside"}},
		{"address taken", lease("2001:db8:1:0:789a::2", false), []string{"2001:db8:1:0:789a::2", "already leased"}},
		{"the gateway's address", lease("2001:db8:1:0:789a::1", false), []string{"2001:db8:1:0:789a::1", "already leased"}},
		{"subnet-router anycast address", lease("2001:db8:1:0:789a::", false), []string{"pool 2001:db8:1:0:789a::/80: address 2001:db8:1:0:789a:: is reserved: it is the subnet-router anycast address"}},
		{"address of a neighbour", lease("2001:db8:1:0:789a::77", false), []string{"2001:db8:1:0:789a::77", "another host", "eth0"}},
		{"address of this host", func(ctx context.Context, h *host, n1, _ spec.Network) error {
			own := pfx("2001:db8:1:0:789a::78/128")
			h.foreign[own.Addr()], h.routes = true, append(h.routes, own)
			return lease(own.Addr().String(), false)(ctx, h, n1, spec.Network{})
		}, []string{"address 2001:db8:1:0:789a::78 on eth0 is in use by this host itself"}},
		{"network: gateway address of a neighbour", func(ctx context.Context, h *host, _, _ spec.Network) error {
			h.foreign[ip("2001:db8:1:0:5::77")] = true
			_, err := h.createNetwork(ctx, recipe{id: netID(3), pools: []spec.PoolRequest{static("2001:db8:1:0:5::/80")}, gateways: []string{"2001:db8:1:0:5::77"}})
			return err
		}, []string{"2001:db8:1:0:5::77", "another host", "eth0"}},
		{"network: all of a prefix that is routed", func(ctx context.Context, h *host, _, _ spec.Network) error {
			_, err := h.createNetwork(ctx, recipe{id: netID(3), pools: []spec.PoolRequest{static("2001:db8:ff::/64")}, options: func(o *spec.Options) { o.NDProxy = spec.SwitchPrefix }})
			return err
		}, []string{"ndproxy=prefix", "2001:db8:ff::/64", "auto, on, off"}},
		{"network: all of a unique local prefix", func(ctx context.Context, h *host, _, _ spec.Network) error {
			_, err := h.createNetwork(ctx, recipe{id: netID(3), pools: []spec.PoolRequest{ula6()}, options: func(o *spec.Options) { o.NDProxy = spec.SwitchPrefix }})
			return err
		}, []string{"ndproxy=prefix", "auto, on, off"}},
		{"network: all of a prefix with a router in it", func(ctx context.Context, h *host, _, _ spec.Network) error {
			h.routers["eth0"] = append(h.routers["eth0"], ip("2001:db8:1:0:5::77"))
			_, err := h.createNetwork(ctx, recipe{id: netID(3), pools: []spec.PoolRequest{static("2001:db8:1:0:5::/80")}, options: func(o *spec.Options) { o.NDProxy = spec.SwitchPrefix }})
			return err
		}, []string{"ndproxy=prefix", "2001:db8:1:0:5::77", "router on eth0"}},
		{"network: the whole on-link prefix", func(ctx context.Context, h *host, n1, _ spec.Network) error {
			return h.engine.CreateNetwork(ctx, spec.Network{ID: netID(3), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: pfx("2001:db8:2::/64")}}})
		}, []string{"2001:db8:2::/64", "overlaps"}},

		{"pool: on loopback", func(ctx context.Context, h *host, _, _ spec.Network) error {
			h.links["lo"] = fakeLink{Kind: "loopback", Up: true}
			defer delete(h.links, "lo")
			_, err := h.engine.RequestPool(ctx, spec.PoolRequest{V6: true, Source: spec.SourcePD, Parent: "lo"})
			if len(h.asked) > 2 { // by those of the other networks
				t.Errorf("asked were %q", h.asked)
			}
			return err
		}, []string{"parent lo is the loopback interface", "leave parent out"}},
		{"pool: overlaps one in use", func(ctx context.Context, h *host, _, _ spec.Network) error {
			_, err := h.engine.RequestPool(ctx, static("2001:db8:1:0:789a:8000::/81"))
			return err
		}, []string{"overlaps", onLinkPool}},
		{"pool: the one in use", func(ctx context.Context, h *host, _, _ spec.Network) error {
			_, err := h.engine.RequestPool(ctx, static(onLinkPool))
			return err
		}, []string{"overlaps", onLinkPool}},

		{"publish: inbound=none", publish(3, spec.Port{Protocol: "tcp", Port: 80}), []string{"a00000000020", "e00000000030", "inbound=none"}},
		{"publish: host port of another endpoint", publish(2, spec.Port{Protocol: "tcp", Port: 81, HostPort: 8080}), []string{"8080/tcp", "endpoint e00000000010"}},
		{"publish: host port of another endpoint, on one address", publish(2, spec.Port{Protocol: "tcp", Port: 81, HostIP: ip("127.0.0.1"), HostPort: 8080}), []string{"8080/tcp", "endpoint e00000000010"}},
		{"publish: every address, and one of them before", publish(2,
			spec.Port{Protocol: "udp", Port: 80, HostIP: ip("127.0.0.1"), HostPort: 90}, spec.Port{Protocol: "udp", Port: 81, HostIP: ip("0.0.0.0"), HostPort: 90}), []string{"90/udp is asked for twice", "ports 80 and 81"}},
		{"publish: one address twice", publish(2,
			spec.Port{Protocol: "tcp", Port: 80, HostIP: ip("192.0.2.5"), HostPort: 90}, spec.Port{Protocol: "tcp", Port: 81, HostIP: ip("192.0.2.5"), HostPort: 90}), []string{"90/tcp is asked for twice"}},
		{"publish: host port that somebody listens on, on that address", publish(2, spec.Port{Protocol: "tcp", Port: 22, HostIP: ip("192.0.2.5"), HostPort: 23}), []string{"23/tcp", "already in use"}},
		{"publish: host port that somebody listens on, on one address", publish(2, spec.Port{Protocol: "tcp", Port: 22, HostPort: 23}), []string{"23/tcp", "already in use"}},
		{"publish: host port that somebody listens on", publish(2, spec.Port{Protocol: "tcp", Port: 22, HostPort: 22}), []string{"22/tcp", "already in use"}},
		{"publish: every port of a range taken", publish(2, spec.Port{Protocol: "tcp", Port: 80, HostPort: 8080, HostEnd: 8080}), []string{"8080/tcp"}},
		{"publish: one host port twice", publish(2, spec.Port{Protocol: "tcp", Port: 80, HostPort: 90}, spec.Port{Protocol: "tcp", Port: 81, HostPort: 90}), []string{"90/tcp is asked for twice", "ports 80 and 81"}},
		{"publish: host address for an address that is not translated", publish(2, spec.Port{Protocol: "tcp", Port: 80, HostIP: ip("2001:db8:1::5"), HostPort: 80}),
			[]string{"80/tcp", "2001:db8:1::5", "masquerade=on"}},
		{"publish: IPv6 loopback", publish(2, spec.Port{Protocol: "tcp", Port: 80, HostIP: ip("::1"), HostPort: 80}), []string{"80/tcp", "::1", "127.0.0.1"}},
		{"publish: unknown protocol", publish(2, spec.Port{Protocol: "icmp", Port: 80, HostPort: 80}), []string{"icmp"}},
		{"publish: port 0", publish(2, spec.Port{Protocol: "tcp", HostPort: 80}), []string{"port 0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.listening["tcp 22"], h.listening["tcp 192.0.2.5 23"] = true, true
			h.foreign[ip("2001:db8:1:0:789a::77")] = true
			ctx := t.Context()
			n1, err := h.createNetwork(ctx, dual(1))
			must(t, err)
			n2, err := h.createNetwork(ctx, recipe{id: netID(2), pools: []spec.PoolRequest{auto6()}, options: func(o *spec.Options) { o.Inbound = spec.InboundNone }})
			must(t, err)
			must(t, h.run(ctx, n1, &attachment{id: epID(1), ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}}))
			must(t, h.run(ctx, n1, &attachment{id: epID(2)}))
			must(t, h.run(ctx, n2, &attachment{id: epID(3)}))
			before, status := h.snapshot(), h.engine.Status(ctx)

			err = tc.call(ctx, h, n1, n2)
			if err == nil {
				t.Fatal("was accepted")
			}
			for _, text := range tc.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q does not say %q", err, text)
				}
			}
			sameWorld(t, "after the refusal", before, h.snapshot())
			sameStatus(t, "after the refusal", status, h.engine.Status(ctx))
			h.consistent(t, "after the refusal")
		})
	}
}

// What looks like a clash and is none.
func TestPublishAccepts(t *testing.T) {
	const container6, container4 = "2001:db8:1:0:789a::3", "172.24.154.3"
	for _, tc := range []struct {
		name    string
		options func(*spec.Options)
		ports   []spec.Port
		want    []string // elements of the ruleset
		unwant  []string
	}{
		{name: "another protocol", ports: []spec.Port{{Protocol: "udp", Port: 80, HostPort: 8080}},
			want: []string{"udp . 8080 : " + container4 + " . 80", container6 + " . udp . 80"}},
		{name: "a port is picked where none is named", ports: []spec.Port{{Protocol: "tcp", Port: 80}},
			want: []string{"tcp . 49153 : " + container4 + " . 80"}},
		{name: "the next of a range", ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080, HostEnd: 8090}},
			want: []string{"tcp . 8081 : " + container4 + " . 80"}},
		{name: "nothing is translated: the host port is nobody's", options: func(o *spec.Options) { o.GatewayMode4 = spec.GatewayRouted },
			ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}},
			want:  []string{container6 + " . tcp . 80", container4 + " . tcp . 80"}, unwant: []string{". 8080 : " + container4}},
		{name: "host address of the translated family", ports: []spec.Port{{Protocol: "tcp", Port: 80, HostIP: ip("127.0.0.1"), HostPort: 80}},
			unwant: []string{container6 + " . tcp . 80"}},
		{name: "host_binding_ipv4", options: func(o *spec.Options) { o.HostBinding4 = ip("192.0.2.5") }, ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 80}},
			want: []string{"192.0.2.5 . tcp . 80 : " + container4 + " . 80"}, unwant: []string{container6 + " . tcp . 80"}},
		{name: "host_binding_ipv4 of every address is the default", options: func(o *spec.Options) { o.HostBinding4 = ip("0.0.0.0") }, ports: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 80}},
			want: []string{"tcp . 80 : " + container4 + " . 80", container6 + " . tcp . 80"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.listening["tcp 49152"] = true
			r := dual(1)
			r.options = tc.options
			n, err := h.createNetwork(t.Context(), r)
			must(t, err)
			other, err := h.createNetwork(t.Context(), dual(2))
			must(t, err)
			must(t, h.run(t.Context(), other, &attachment{id: epID(8), ports: []spec.Port{{Protocol: "tcp", Port: 443, HostPort: 8080}}}))
			must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
			must(t, h.run(t.Context(), n, &attachment{id: epID(2), ports: tc.ports}))
			for _, element := range tc.want {
				if !strings.Contains(h.ruleset.String(), "\t"+element+",\n") {
					t.Errorf("no element %q in\n%s", element, h.ruleset)
				}
			}
			for _, element := range tc.unwant {
				if strings.Contains(h.ruleset.String(), element) {
					t.Errorf("element %q in\n%s", element, h.ruleset)
				}
			}
			h.consistent(t, "published")
		})
	}
}

// A port that is opened as it is takes no port of the host away from others.
func TestOpenedPortTakesNoHostPort(t *testing.T) {
	h := newHost(t)
	opened, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto6()}})
	must(t, err)
	translated, err := h.createNetwork(t.Context(), recipe{id: netID(2), pools: []spec.PoolRequest{ula6()}})
	must(t, err)
	port := []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}
	must(t, h.run(t.Context(), opened, &attachment{id: epID(1), ports: port}))
	must(t, h.run(t.Context(), translated, &attachment{id: epID(2), ports: port}))
}

// From Docker 28 on a container's IPv6 default route may be by another endpoint
// than its IPv4 one. Both are told to publish the same ports, and the container
// is no other container to itself.
func TestPublishByOneEndpointForEachFamily(t *testing.T) {
	port := func(f spec.Family) []spec.Port {
		return []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080, Family: f}}
	}
	const only6, dual6, dual4, global = "fd12:3456:789a::2", "fd12:3456:789a:1::2", "172.24.154.2", "2001:db8:1:0:789a::2"
	for _, tc := range []struct {
		name   string
		only6  spec.Family // what the network with IPv6 alone is told
		second recipe      // beside it
		ports  []spec.Port
		before bool // published by the second first
		want   []string
		unwant []string
	}{
		{name: "as the engine says", second: recipe{pools: []spec.PoolRequest{auto4(), ula6()}}, ports: port(spec.IPv4),
			want: []string{"tcp . 8080 : " + only6 + " . 80", "tcp . 8080 : " + dual4 + " . 80"}, unwant: []string{dual6 + " . 80"}},
		{name: "what is opened is not IPv6 either", second: recipe{pools: []spec.PoolRequest{auto4(), auto6()}}, ports: port(spec.IPv4),
			want: []string{"tcp . 8080 : " + only6 + " . 80", "tcp . 8080 : " + dual4 + " . 80"}, unwant: []string{global + " . tcp . 80"}},
		{name: "as can be guessed", second: recipe{pools: []spec.PoolRequest{auto4(), ula6()}}, ports: port(0),
			want: []string{"tcp . 8080 : " + only6 + " . 80", "tcp . 8080 : " + dual4 + " . 80"}, unwant: []string{dual6 + " . 80"}},
		{name: "as engine 28 says to the last one", only6: spec.IPv4, second: recipe{pools: []spec.PoolRequest{auto4(), ula6()}}, ports: port(spec.IPv4), before: true,
			want: []string{"tcp . 8080 : " + only6 + " . 80", "tcp . 8080 : " + dual4 + " . 80"}, unwant: []string{dual6 + " . 80"}},
		{name: "both by the other one already", second: recipe{pools: []spec.PoolRequest{auto4(), ula6()}}, ports: port(0), before: true,
			want: []string{"tcp . 8080 : " + dual6 + " . 80", "tcp . 8080 : " + dual4 + " . 80"}, unwant: []string{only6 + " . 80"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, ctx := newHost(t), t.Context()
			first, err := h.createNetwork(ctx, recipe{id: netID(1), pools: []spec.PoolRequest{ula6()}})
			must(t, err)
			tc.second.id = netID(2)
			second, err := h.createNetwork(ctx, tc.second)
			must(t, err)
			must(t, h.run(ctx, first, &attachment{id: epID(1), sandbox: "/run/web"}))
			must(t, h.run(ctx, second, &attachment{id: epID(2), sandbox: "/run/web"}))
			calls := []func() error{
				func() error { return h.engine.Publish(ctx, first.ID, epID(1), port(tc.only6)) },
				func() error { return h.engine.Publish(ctx, second.ID, epID(2), tc.ports) },
			}
			if tc.before {
				slices.Reverse(calls)
			}
			for _, call := range calls {
				must(t, call())
			}
			look := func(when string) {
				t.Helper()
				for _, element := range tc.want {
					if !strings.Contains(h.ruleset.String(), "\t"+element+",\n") {
						t.Errorf("%s: no element %q in\n%s", when, element, h.ruleset)
					}
				}
				for _, element := range tc.unwant {
					if strings.Contains(h.ruleset.String(), element) {
						t.Errorf("%s: element %q in\n%s", when, element, h.ruleset)
					}
				}
				h.consistent(t, when)
			}
			look("published")
			if err := h.run(ctx, second, &attachment{id: epID(3), ports: port(spec.IPv4)}); err == nil || !strings.Contains(err.Error(), "8080/tcp is published by endpoint e000000000") {
				t.Errorf("another container: %v, want the host port refused", err)
			}
			h.restart(t)
			look("after a restart")
		})
	}
}

// The name of a veth pair is made from a part of the ID: an endpoint that would
// have another's is refused, and the other one is still known by that name.
func TestRefusedEndpointLeavesItsNamesake(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	must(t, h.run(t.Context(), n, &attachment{id: epID(1)}))
	if err := h.run(t.Context(), n, &attachment{id: epID(1)[:12] + strings.Repeat("f", 52)}); err == nil {
		t.Fatal("a second endpoint of the same interface name was accepted")
	}
	addrs := h.engine.Status(t.Context()).Networks[0].Endpoints[0].Addresses()
	for _, a := range addrs {
		h.neighbours[a] = "the last owner's"
	}
	h.engine.LinkChanged(t.Context(), spec.VethName(epID(1)), false, false)
	h.engine.LinkChanged(t.Context(), spec.VethName(epID(1)), true, false)
	if len(addrs) != 2 || len(h.neighbours) != 0 {
		t.Errorf("of %v the host remembers %v when the link came up again", addrs, h.neighbours)
	}
}

// The same host port of several host addresses is several endpoints' (bind(2)).
func TestPublishOnSeveralHostAddresses(t *testing.T) {
	on := func(host string, port uint16) spec.Port {
		return spec.Port{Protocol: "tcp", Port: 80, HostIP: ip(host), HostPort: port}
	}
	const c4, c6 = "172.24.154.2", "fd12:3456:789a::2" // the first container's
	for _, tc := range []struct {
		name          string
		first, second []spec.Port // of two containers
		refused       bool        // the second
		picked        []uint16    // host ports of the second
		want          []string    // elements of the ruleset
	}{
		{name: "two addresses, one container", first: []spec.Port{on("192.0.2.5", 8080), on("192.0.2.6", 8080)},
			want: []string{"192.0.2.5 . tcp . 8080 : " + c4 + " . 80", "192.0.2.6 . tcp . 8080 : " + c4 + " . 80"}},
		{name: "two addresses, two containers", first: []spec.Port{on("192.0.2.5", 8080)}, second: []spec.Port{on("192.0.2.6", 8080)}, picked: []uint16{8080},
			want: []string{"192.0.2.5 . tcp . 8080 : " + c4 + " . 80", "192.0.2.6 . tcp . 8080 : 172.24.154.3 . 80"}},
		{name: "one address, two containers", first: []spec.Port{on("192.0.2.5", 8080)}, second: []spec.Port{on("192.0.2.5", 8080)}, refused: true},
		{name: "loopback and another", first: []spec.Port{on("127.0.0.1", 8080), on("192.0.2.5", 8080)},
			want: []string{"192.0.2.5 . tcp . 8080 : " + c4 + " . 80"}},
		{name: "loopback and another, two containers", first: []spec.Port{on("127.0.0.1", 8080)}, second: []spec.Port{on("192.0.2.5", 8080)}, picked: []uint16{8080}},
		{name: "both families, as the container engine asks", first: []spec.Port{on("0.0.0.0", 8080), on("::", 8080)},
			want: []string{"tcp . 8080 : " + c4 + " . 80", "tcp . 8080 : " + c6 + " . 80"}},
		{name: "one family each, two containers", first: []spec.Port{on("0.0.0.0", 8080)}, second: []spec.Port{on("::", 8080)}, picked: []uint16{8080}},
		{name: "one family's every address, and both families", first: []spec.Port{on("::", 8080)}, second: []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 8080}}, refused: true},
		{name: "every address after one", first: []spec.Port{on("192.0.2.5", 8080)}, second: []spec.Port{on("0.0.0.0", 8080)}, refused: true},
		{name: "one address after every", first: []spec.Port{on("0.0.0.0", 8080)}, second: []spec.Port{on("127.0.0.1", 8080)}, refused: true},
		{name: "-P", first: []spec.Port{on("0.0.0.0", 0), on("::", 0)}, second: []spec.Port{on("0.0.0.0", 0), on("::", 0)}, picked: []uint16{49155, 49155},
			want: []string{"tcp . 49154 : " + c4 + " . 80", "tcp . 49154 : " + c6 + " . 80"}},
		{name: "-P on two addresses", first: []spec.Port{on("192.0.2.7", 0)}, second: []spec.Port{on("192.0.2.8", 0)}, picked: []uint16{49152}},
		{name: "-P beside a program on one address", second: []spec.Port{on("192.0.2.5", 0), on("192.0.2.6", 0), on("192.0.2.6", 0)}, picked: []uint16{49152, 49154, 49155}},
		{name: "a range", first: []spec.Port{on("0.0.0.0", 8080)}, second: []spec.Port{{Protocol: "tcp", Port: 80, HostIP: ip("192.0.2.5"), HostPort: 8079, HostEnd: 8082}}, picked: []uint16{8079}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.listening["tcp 192.0.2.6 49152"], h.listening["tcp 49153"] = true, true
			n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto4(), ula6()}})
			must(t, err)
			must(t, h.run(t.Context(), n, &attachment{id: epID(1), ports: tc.first}))
			err = h.run(t.Context(), n, &attachment{id: epID(2), ports: tc.second})
			if (err != nil) != tc.refused {
				t.Fatalf("the second container: %v, want refused: %t", err, tc.refused)
			}
			if tc.refused && !strings.Contains(err.Error(), "endpoint e00000000010") {
				t.Errorf("error %q does not name the endpoint that has the port", err)
			}
			if !tc.refused {
				second, err := h.engine.Endpoint(t.Context(), n.ID, epID(2))
				must(t, err)
				var picked []uint16
				for _, p := range second.Ports {
					picked = append(picked, p.HostPort)
				}
				if !slices.Equal(picked, tc.picked) {
					t.Errorf("host ports %d, want %d", picked, tc.picked)
				}
			}
			for _, element := range tc.want {
				if !strings.Contains(h.ruleset.String(), "\t"+element+",\n") {
					t.Errorf("no element %q in\n%s", element, h.ruleset)
				}
			}
			h.consistent(t, "published")
		})
	}
}
