package engine_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/v6net/v6net/internal/spec"
)

// machine does what container engines, administrators and crashes do to a
// daemon, in any order, and knows which networks and containers there must be.
type machine struct {
	*host
	t          *testing.T
	pristine   snapshot
	networks   map[string]spec.Network
	containers map[string]*attachment
	created    int
}

// TestAnyLife: whatever happens in whatever order, kernel, journal and memory
// agree, no address is owned twice, and at the end nothing is left.
func TestAnyLife(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHost(t)
		m := &machine{host: h, t: t, pristine: h.snapshot(), networks: map[string]spec.Network{}, containers: map[string]*attachment{}}
		rt.Repeat(map[string]func(*rapid.T){
			"create network": m.createAny,
			"delete network": m.deleteAny,
			"run container":  m.runAny,
			"stop container": m.stopAny,
			"publish":        m.publishAny,
			"restart":        func(*rapid.T) { m.restart(t) },
			"routes":         m.moveRoute,
			"bridge removed": m.loseBridge,
			"resync":         func(rt *rapid.T) { m.engine.Resync(t.Context()) },
			"":               m.check,
		})
		m.end(rt)
	})
}

// faulty makes a call with at most one thing going wrong, a crash included, and
// reports whether it was done. After a crash the container engine's connection
// is gone, which is an error to it.
func (m *machine) faulty(rt *rapid.T, call func(context.Context) error) error {
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	m.arm(fault{
		at:     rapid.IntRange(0, 40).Draw(rt, "call that goes wrong"),
		mode:   rapid.SampledFrom([]mode{failBefore, failAfter, callerGone, crashBefore, crashAfter}).Draw(rt, "how"),
		cancel: cancel,
	})
	var err error
	if dies(func() error { err = call(ctx); return err }) {
		err = fmt.Errorf("connection reset")
		m.restart(m.t)
		m.settle(m.t)
	}
	m.disarm()
	return err
}

func (m *machine) createAny(rt *rapid.T) {
	if len(m.networks) == 4 {
		rt.Skip()
	}
	m.created++
	r := recipe{id: netID(m.created), internal: rapid.Bool().Draw(rt, "internal")}
	r.pools = []spec.PoolRequest{rapid.SampledFrom([]spec.PoolRequest{
		auto6(), ula6(), static("2001:db8:ff::/64"), static("2001:db8:1:0:5::/80"), static("2001:db8:1:0:5:1::/96"),
	}).Draw(rt, "pool")}
	if rapid.Bool().Draw(rt, "dual-stack") {
		r.pools = append(r.pools, auto4())
	}
	r.options = func(o *spec.Options) {
		o.Inbound = rapid.SampledFrom([]spec.Inbound{spec.InboundPublished, spec.InboundOpen, spec.InboundNone}).Draw(rt, "inbound")
		o.NDProxy = rapid.SampledFrom([]spec.Switch{spec.SwitchAuto, spec.SwitchOn}).Draw(rt, "ndproxy")
	}
	var n spec.Network
	err := m.faulty(rt, func(ctx context.Context) error { return m.create(ctx, r, &n) })
	if err == nil {
		m.networks[n.ID] = n
		return
	}
	// The container engine gives up what it had an answer for.
	must(rt, m.deleteNetwork(m.t.Context(), n))
}

func anyOf[T any](rt *rapid.T, from map[string]T) T {
	if len(from) == 0 {
		rt.Skip()
	}
	return from[rapid.SampledFrom(slices.Sorted(maps.Keys(from))).Draw(rt, "which")]
}

func (m *machine) deleteAny(rt *rapid.T) {
	n := anyOf(rt, m.networks)
	for _, a := range m.containers {
		if a.network == n.ID {
			rt.Skip() // as the container engine refuses to
		}
	}
	if m.faulty(rt, func(ctx context.Context) error { return m.deleteNetwork(ctx, n) }) != nil {
		must(rt, m.deleteNetwork(m.t.Context(), n))
	}
	delete(m.networks, n.ID)
}

func (m *machine) runAny(rt *rapid.T) {
	n := anyOf(rt, m.networks)
	if len(m.containers) == 6 {
		rt.Skip()
	}
	m.created++
	a := &attachment{id: epID(m.created)}
	if n.Options.Inbound != spec.InboundNone {
		a.ports = anyPorts(rt)
	}
	if m.faulty(rt, func(ctx context.Context) error { return m.run(ctx, n, a) }) == nil {
		m.containers[a.id] = a
		return
	}
	must(rt, m.stop(m.t.Context(), *a))
}

func anyPorts(rt *rapid.T) []spec.Port {
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) spec.Port {
		return spec.Port{Protocol: "tcp", Port: rapid.Uint16Range(80, 82).Draw(rt, "port"), HostPort: rapid.Uint16Range(0, 3).Draw(rt, "host port")}
	}), 0, 2).Draw(rt, "ports")
}

func (m *machine) publishAny(rt *rapid.T) {
	a := anyOf(rt, m.containers)
	ports := anyPorts(rt)
	before, _ := m.engine.Endpoint(m.t.Context(), a.network, a.id)
	err := m.faulty(rt, func(ctx context.Context) error { return m.engine.Publish(ctx, a.network, a.id, ports) })
	after, _ := m.engine.Endpoint(m.t.Context(), a.network, a.id)
	if err != nil && err.Error() != "connection reset" && fmt.Sprint(before) != fmt.Sprint(after) {
		rt.Errorf("Publish failed (%v) and changed %v to %v", err, before, after)
	}
}

func (m *machine) stopAny(rt *rapid.T) {
	a := anyOf(rt, m.containers)
	if m.faulty(rt, func(ctx context.Context) error { return m.stop(ctx, *a) }) != nil {
		must(rt, m.stop(m.t.Context(), *a))
	}
	delete(m.containers, a.id)
}

func (m *machine) moveRoute(rt *rapid.T) {
	m.defaultParent = rapid.SampledFrom([]string{"eth0", "eth1", ""}).Draw(rt, "default route")
	_ = m.faulty(rt, func(ctx context.Context) error { m.engine.RoutesChanged(ctx); return nil })
	m.engine.Resync(m.t.Context()) // what failed is repeated with the next event
}

func (m *machine) loseBridge(rt *rapid.T) {
	n := anyOf(rt, m.networks)
	m.remove(n.Bridge())
	_ = m.faulty(rt, func(ctx context.Context) error { m.engine.LinkChanged(ctx, n.Bridge(), false, true); return nil })
	m.engine.Resync(m.t.Context())
}

// check is the invariant after every step.
func (m *machine) check(rt *rapid.T) {
	m.consistent(rt, "invariant")
	status := m.engine.Status(m.t.Context())
	owners := map[netip.Addr]string{}
	own := func(a netip.Addr, who string) {
		if other, twice := owners[a]; twice && a.IsValid() {
			rt.Errorf("%s belongs to %s and to %s", a, other, who)
		}
		owners[a] = who
	}
	endpoints := 0
	for _, n := range status.Networks {
		if _, known := m.networks[n.ID]; !known || n.Phase != spec.PhaseReady || n.Error != "" {
			rt.Errorf("network %s: known %t, phase %s, error %q", n.ID, known, n.Phase, n.Error)
		}
		for _, s := range n.Subnets() {
			own(s.Gateway, "the gateway of "+n.ID)
		}
		endpoints += len(n.Endpoints)
		for _, ep := range n.Endpoints {
			if a, known := m.containers[ep.ID]; !known || a.network != n.ID || ep.Phase != spec.PhaseReady || !ep.Joined {
				rt.Errorf("endpoint %+v is known: %t", ep, known)
			}
			for _, a := range ep.Addresses() {
				own(a, ep.ID)
			}
			if _, there := m.links[spec.VethName(ep.ID)]; !there {
				rt.Errorf("endpoint %s has no link", ep.ID)
			}
		}
	}
	links := 0
	for _, l := range m.links {
		if l.Alias != "" {
			links++
		}
	}
	if len(status.Networks) != len(m.networks) || endpoints != len(m.containers) || links != len(m.networks)+len(m.containers) {
		rt.Errorf("%d networks, %d endpoints and %d links, want %d networks, %d endpoints and a link for each", len(status.Networks), endpoints, links, len(m.networks), len(m.containers))
	}
	leases := 0
	for _, p := range status.Pools {
		leases += p.Leases
		if !p.Used {
			rt.Errorf("pool %s is nobody's", p.ID)
		}
	}
	if len(owners) != leases {
		rt.Errorf("%d leases for %d addresses of gateways and containers", leases, len(owners))
	}
}

// end takes everything down without faults.
func (m *machine) end(rt *rapid.T) {
	for _, a := range m.containers {
		must(rt, m.stop(m.t.Context(), *a))
	}
	for _, n := range m.networks {
		must(rt, m.deleteNetwork(m.t.Context(), n))
	}
	sameWorld(rt, "at the end", m.pristine, m.snapshot())
}
