package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// scene is a host on which a network and a container are half-way through their
// life, alone or beside another network.
type scene struct {
	*host
	network  spec.Network
	endpoint spec.Endpoint
	leased   map[bool]netip.Addr // by whether it is IPv6's
	guard    func()              // complains where the other network is touched
}

// stage is one call in a life.
type stage struct {
	name    string
	do      func(ctx context.Context, s *scene) error
	removal bool // completes when it is repeated
	chooses bool // may choose otherwise when it is repeated
	given   bool // happens without fault
	creates bool // is taken back if the daemon is killed before its last call
	unused  bool // what it takes is nobody's yet, and is taken back by every start
}

// life is what a container engine does from `docker network create` to `docker
// network rm`. It ends in the given way.
func life(end ...stage) []stage {
	pool := func(request spec.PoolRequest) func(context.Context, *scene) error {
		return func(ctx context.Context, s *scene) error {
			p, err := s.engine.RequestPool(ctx, request)
			if err != nil {
				return err
			}
			subnets := &s.network.IPv4
			if request.V6 {
				subnets = &s.network.IPv6
			}
			*subnets = []spec.Subnet{{Prefix: p.Prefix}}
			return nil
		}
	}
	gateway := func(subnets func(*scene) []spec.Subnet) func(context.Context, *scene) error {
		return func(ctx context.Context, s *scene) error {
			subnet := &subnets(s)[0]
			p, err := s.engine.RequestAddress(ctx, subnet.Prefix.String(), netip.Addr{}, true)
			subnet.Gateway = p.Addr()
			return err
		}
	}
	lease := func(subnets func(*scene) []spec.Subnet, want netip.Addr) func(context.Context, *scene) error {
		return func(ctx context.Context, s *scene) error {
			p, err := s.engine.RequestAddress(ctx, subnets(s)[0].Prefix.String(), want, false)
			if err != nil {
				return err
			}
			s.leased[p.Addr().Is6()] = p.Addr()
			if p.Addr().Is6() {
				s.endpoint.IPv6 = p
			} else {
				s.endpoint.IPv4 = p
			}
			return nil
		}
	}
	publish := func(ports ...spec.Port) func(context.Context, *scene) error {
		return func(ctx context.Context, s *scene) error {
			return s.engine.Publish(ctx, s.network.ID, s.endpoint.ID, ports)
		}
	}
	return append([]stage{
		{name: "RequestPool IPv4", do: pool(auto4()), chooses: true, unused: true},
		{name: "RequestPool IPv6", do: pool(auto6()), chooses: true, unused: true},
		{name: "RequestAddress of the IPv4 gateway", do: gateway(v4), chooses: true},
		{name: "RequestAddress of the IPv6 gateway", do: gateway(v6), chooses: true},
		{name: "CreateNetwork", creates: true, do: func(ctx context.Context, s *scene) error { return s.engine.CreateNetwork(ctx, clone(s.network)) }},
		{name: "RequestAddress IPv4", do: lease(v4, netip.Addr{}), chooses: true, unused: true},
		{name: "RequestAddress IPv6, probed", do: lease(v6, netip.Addr{}), chooses: true, unused: true},
		{name: "ReleaseAddress IPv6", removal: true, do: func(ctx context.Context, s *scene) error {
			return s.engine.ReleaseAddress(ctx, s.network.IPv6[0].Prefix.String(), s.leased[true])
		}},
		{name: "RequestAddress IPv6, named", do: lease(v6, ip("2001:db8:1:0:789a::50")), unused: true},
		{name: "CreateEndpoint", creates: true, do: func(ctx context.Context, s *scene) error {
			_, err := s.engine.CreateEndpoint(ctx, s.endpoint)
			return err
		}},
		{name: "Join", do: func(ctx context.Context, s *scene) error {
			_, err := s.engine.Join(ctx, s.network.ID, s.endpoint.ID, "/run/sandbox")
			return err
		}},
		{name: "moving the link into the sandbox", do: func(_ context.Context, s *scene) error { s.moveIn(s.endpoint.ID); return nil }},
		{name: "Publish", do: publish(spec.Port{Protocol: "tcp", Port: 80, HostPort: 8080})},
		{name: "Publish other ports", do: publish(spec.Port{Protocol: "tcp", Port: 443, HostPort: 8443}, spec.Port{Protocol: "udp", Port: 443, HostPort: 8443})},
	}, end...)
}

func v4(s *scene) []spec.Subnet { return s.network.IPv4 }
func v6(s *scene) []spec.Subnet { return s.network.IPv6 }

var (
	unpublish = stage{name: "Unpublish", removal: true, do: func(ctx context.Context, s *scene) error {
		return s.engine.Unpublish(ctx, s.network.ID, s.endpoint.ID)
	}}
	moveOut = stage{name: "moving the link out of the sandbox", do: func(_ context.Context, s *scene) error { s.moveOut(s.endpoint.ID); return nil }}
	leave   = stage{name: "Leave", removal: true, do: func(ctx context.Context, s *scene) error {
		return s.engine.Leave(ctx, s.network.ID, s.endpoint.ID)
	}}
	deleteEndpoint = stage{name: "DeleteEndpoint", removal: true, do: func(ctx context.Context, s *scene) error {
		return s.engine.DeleteEndpoint(ctx, s.network.ID, s.endpoint.ID)
	}}
	deleteNetwork = stage{name: "DeleteNetwork", removal: true, do: func(ctx context.Context, s *scene) error {
		return s.engine.DeleteNetwork(ctx, s.network.ID)
	}}
	releaseAddresses = stage{name: "ReleaseAddress", removal: true, do: func(ctx context.Context, s *scene) error {
		return errors.Join(
			gone(s.engine.ReleaseAddress(ctx, s.network.IPv4[0].Prefix.String(), s.leased[false])),
			gone(s.engine.ReleaseAddress(ctx, s.network.IPv6[0].Prefix.String(), s.leased[true])))
	}}
	releasePool = stage{name: "ReleasePool", removal: true, do: func(ctx context.Context, s *scene) error {
		return gone(s.engine.ReleasePool(ctx, s.network.IPv6[0].Prefix.String()))
	}}
)

// lives are the ways to the end: in order, without the calls of a container
// engine that was killed, and by the network's end alone.
var lives = map[string][]stage{
	"in order":        life(unpublish, leave, moveOut, deleteEndpoint, releaseAddresses, releasePool, deleteNetwork),
	"leave closes":    life(leave, moveOut, deleteEndpoint, releaseAddresses, releasePool, deleteNetwork),
	"deleted running": life(deleteEndpoint, releaseAddresses, deleteNetwork, releasePool),
	"all at once":     life(deleteNetwork, releasePool),
	"leases swept":    afterSweep(life(deleteEndpoint)),
	"lent":            onLent(life(unpublish, leave, moveOut, deleteEndpoint, releaseAddresses, releasePool, deleteNetwork)),
	"lent at once":    onLent(life(deleteNetwork, releasePool)),
	"never joined":    append(until("Join", life()), releaseAddresses, releasePool, deleteNetwork),

	"macvlan":                 onParent("macvlan", life(leave, moveOut, deleteEndpoint, releaseAddresses, releasePool, deleteNetwork)),
	"macvlan deleted running": onParent("macvlan", life(deleteEndpoint, releaseAddresses, deleteNetwork, releasePool)),
	"ipvlan l3 all at once":   onParent("ipvlan", life(deleteNetwork, releasePool)),
}

// onParent is a life without a bridge, and so without published ports, but with
// the host's own link.
func onParent(mode string, stages []stage) []stage {
	stages = slices.DeleteFunc(stages, func(s stage) bool { return strings.HasPrefix(s.name, "Publish") })
	return append([]stage{{name: mode, given: true, do: func(_ context.Context, s *scene) (err error) {
		raw := map[string]string{"mode": mode, "host_access": "on"}
		if mode == "ipvlan" {
			raw["ipvlan_mode"] = "l3"
		} else {
			raw["ra"] = "off" // left to us, a failure is none
		}
		s.network.Options, err = spec.ParseOptions(raw)
		return err
	}}}, stages...)
}

// onLent is a life on a prefix of a source.
func onLent(stages []stage) []stage {
	stages = slices.Clone(stages)
	for i := range stages {
		if strings.HasPrefix(stages[i].name, "RequestAddress IPv6, named") {
			stages[i] = stage{name: stages[i].name, unused: true, do: func(ctx context.Context, s *scene) error {
				p, err := s.engine.RequestAddress(ctx, s.network.IPv6[0].Prefix.String(), ip("2001:db8:a000::50"), false)
				if err == nil {
					s.leased[true], s.endpoint.IPv6 = p.Addr(), p
				}
				return err
			}}
		}
	}
	return append([]stage{{name: "lend", given: true, do: func(_ context.Context, s *scene) error {
		s.lentTo[pdOnEth0] = []spec.Delegation{{Source: spec.SourcePD, Parent: "eth0", Prefix: pfx("2001:db8:a000::/56"), Origin: "the test's server"}}
		return nil
	}}}, stages...)
}

// until are the stages before one.
func until(name string, stages []stage) []stage {
	return stages[:slices.IndexFunc(stages, func(s stage) bool { return s.name == name })]
}

// afterSweep is a life with a start between the lease of an address and the
// endpoint that has it. The start takes the lease back.
func afterSweep(stages []stage) []stage {
	i := slices.IndexFunc(stages, func(s stage) bool { return s.name == "CreateEndpoint" })
	return slices.Insert(stages, i, stage{name: "start", given: true, do: func(ctx context.Context, s *scene) error { return s.start(ctx) }})
}

// eachStage runs a subtest for every stage of every life, alone and beside another network.
func eachStage(t *testing.T, run func(t *testing.T, s stage, at func(t testing.TB) *scene)) {
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(lives)) {
		stages := lives[name]
		for i, s := range stages {
			path := ""
			for _, before := range stages[:i+1] {
				path += before.name + "/"
			}
			if seen[path] || s.given {
				continue
			}
			seen[path] = true
			for _, beside := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/beside=%t", name, s.name, beside), func(t *testing.T) {
					t.Parallel()
					run(t, s, func(t testing.TB) *scene { return newScene(t, stages[:i], beside) })
				})
			}
		}
	}
}

// newScene is a host after some stages.
func newScene(t testing.TB, stages []stage, beside bool) *scene {
	t.Helper()
	s := &scene{
		host:     newHost(t),
		network:  spec.Network{ID: netID(1), Options: spec.DefaultOptions()},
		endpoint: spec.Endpoint{ID: epID(1), NetworkID: netID(1)},
		leased:   map[bool]netip.Addr{},
		guard:    func() {},
	}
	if beside {
		n, err := s.createNetwork(t.Context(), recipe{id: netID(9), pools: []spec.PoolRequest{ula6()}})
		must(t, err)
		must(t, s.run(t.Context(), n, &attachment{id: epID(9), ports: []spec.Port{{Protocol: "tcp", Port: 22, HostPort: 2222}}}))
		s.guardOther(t)
	}
	for _, stage := range stages {
		if err := stage.do(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", stage.name, err)
		}
	}
	s.disarm()
	return s
}

// guardOther sees to it that nothing that the host has now is ever changed for
// the worse, not for a moment: links, elements of the ruleset, sysctls.
func (s *scene) guardOther(t testing.TB) {
	links, ruleset := maps.Clone(s.links), *s.ruleset
	kept := map[string]string{forwarding6: "1", acceptRA0: "2"}
	failed := false
	s.watch = func() {
		if failed {
			return
		}
		complain := func(format string, args ...any) {
			failed = true
			t.Errorf("after %s: the other network: %s", s.calls[len(s.calls)-1], fmt.Sprintf(format, args...))
		}
		for name, l := range links {
			if !reflect.DeepEqual(s.links[name], l) {
				complain("link %s is %+v, was %+v", name, s.links[name], l)
			}
		}
		for key, value := range kept {
			if s.sysctls[key] != value {
				complain("%s is %s", key, s.sysctls[key])
			}
		}
		if s.ruleset == nil {
			complain("the whole ruleset is gone")
			return
		}
		for _, table := range ruleset.Tables {
			for _, set := range table.Sets {
				if len(set.Elements) == 0 {
					continue
				}
				now := s.ruleset.Set(set.Name)
				for _, e := range set.Elements {
					if !slices.Contains(now.Elements, e) {
						complain("element %s of %s is gone", e, set.Name)
					}
				}
			}
		}
	}
}

// names reports whether an error says which object it is about. A pool that is
// yet to be chosen has no name.
func (s *scene) names(err error) bool {
	for _, object := range []string{spec.ShortID(s.network.ID), spec.ShortID(s.endpoint.ID), onLinkPool, pool4, "choose a prefix", "parent eth0", "2001:db8:a000::/64"} {
		if strings.Contains(err.Error(), object) {
			return true
		}
	}
	return false
}

// forgetUnused gives back the leases that no endpoint has, as a start does.
func (s *scene) forgetUnused(t testing.TB) {
	t.Helper()
	s.restart(t)
}
