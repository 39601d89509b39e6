package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// The range that host ports are picked from when the user names none: IANA's
// dynamic ports (RFC 6335 §6).
const (
	firstDynamicPort = 49152
	lastDynamicPort  = 65535
)

// Publish opens an endpoint's published ports, in place of those it had. A
// host port is picked where one is needed and none was named.
func (e *Engine) Publish(ctx context.Context, networkID, id string, ports []spec.Port) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.network(networkID)
	if err != nil {
		return err
	}
	ep, err := e.living(networkID, id)
	if err != nil {
		return err
	}
	resolved, err := e.resolvePorts(n, ep, ports)
	if err == nil {
		err = e.setPorts(ctx, ep, ports, resolved)
	}
	if err != nil {
		return fmt.Errorf("network %s: endpoint %s: publish: %w", spec.ShortID(networkID), spec.ShortID(id), err)
	}
	return nil
}

// Unpublish closes an endpoint's ports. The error matches spec.ErrNotFound for an unknown one.
func (e *Engine) Unpublish(ctx context.Context, networkID, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	ep, err := e.endpoint(networkID, id)
	if err != nil {
		return err
	}
	if err := e.setPorts(ctx, ep, nil, nil); err != nil {
		return fmt.Errorf("network %s: endpoint %s: unpublish: %w", spec.ShortID(networkID), spec.ShortID(id), err)
	}
	return nil
}

// setPorts journals and applies an endpoint's ports, as they were asked for and what
// has come of that, and ends the connections that are no longer right. On failure the
// ports are as before.
func (e *Engine) setPorts(ctx context.Context, ep *endpoint, asked, ports []spec.Port) error {
	before, askedBefore := ep.Ports, ep.Asked
	change := func(asked, to []spec.Port) func(context.Context) error {
		return func(ctx context.Context) error {
			was := *ep
			e.dropPorts(ep)
			ep.Asked, ep.Ports, ep.unpublished = asked, to, nil
			e.takePorts(ep)
			if err := errors.Join(e.Journal.PutEndpoint(ep.Endpoint), e.applyContainer(ctx, &was, ep)); err != nil {
				return err
			}
			return e.Conntrack.ForgetPorts(ctx, e.stalePorts(&was, ep))
		}
	}
	if len(before) == 0 && len(ports) == 0 {
		ep.Asked, ep.unpublished = asked, nil
		return e.Journal.PutEndpoint(ep.Endpoint)
	}
	return run(ctx, []step{{what: "ports", do: change(asked, ports), undo: change(askedBefore, before)}})
}

// stalePorts are those whose connections end with a change: all that it closes,
// and of those that it opens the translated UDP ports. Who asked one of these too
// early is on the way to the host itself for as long as he goes on asking; a new
// TCP or SCTP connection is looked at anew.
func (e *Engine) stalePorts(before, after *endpoint) []firewall.Published {
	n, ok := e.networks[after.NetworkID]
	if !ok {
		return nil
	}
	was, is := n.published(before), n.published(after)
	closed := slices.DeleteFunc(slices.Clone(was), func(p firewall.Published) bool { return slices.Contains(is, p) })
	opened := slices.DeleteFunc(slices.Clone(is), func(p firewall.Published) bool {
		return slices.Contains(was, p) || p.Protocol != "udp" || p.HostPort == 0
	})
	return append(closed, opened...)
}

// resolvePorts checks published ports and picks host ports.
func (e *Engine) resolvePorts(n *network, ep *endpoint, ports []spec.Port) ([]spec.Port, error) {
	if len(ports) > 0 && n.Options.Inbound == spec.InboundNone {
		return nil, fmt.Errorf("the network has inbound=none: no port can be published on it")
	}
	own := takenPorts{} // of the ports before, in the same request
	resolved := make([]spec.Port, 0, len(ports))
	for _, p := range ports {
		p = ep.possible(p)
		if err := n.checkHostIP(ep, p); err != nil {
			return nil, err
		}
		p, left := e.besideOwn(n, ep, p)
		if !left {
			continue
		}
		if len(n.translated(ep, p)) > 0 {
			var err error
			if p, err = e.pickHostPort(n, ep, p, own); err != nil {
				return nil, err
			}
			own.add(ep, n.publishedPort(ep, p))
		} else {
			p.HostPort = 0 // takes none of the host's
		}
		p.HostEnd = 0
		resolved = append(resolved, p)
	}
	return resolved, nil
}

// possible is a port of a family that the endpoint can have. Engine 28 says IPv4 to the
// endpoint that came last, whichever it is (moby libnetwork/endpoint.go, sbJoin). One
// without is IPv6's.
func (ep *endpoint) possible(p spec.Port) spec.Port {
	if p.Family == spec.IPv4 && !ep.IPv4.IsValid() {
		p.Family = 0
	}
	return p
}

// besideOwn leaves out the families in which the port is published already by
// another endpoint of the same container, and reports whether one is left: the
// engine may have one endpoint for each family's default route, and hands the
// same ports to both.
func (e *Engine) besideOwn(n *network, ep *endpoint, p spec.Port) (spec.Port, bool) {
	if ep.Sandbox == "" || p.HostPort == 0 || p.HostEnd > p.HostPort {
		return p, true // a port that is picked is another one
	}
	published := func(want firewall.Published) bool {
		return slices.ContainsFunc(e.hostPorts[hostPort{want.Protocol, want.HostPort}], func(t takenPort) bool {
			return t.endpoint != ep && t.endpoint.Sandbox == ep.Sandbox && t.published.Port == want.Port && want.Collides(t.published)
		})
	}
	var left []spec.Family
	beside := false
	for _, family := range []spec.Family{spec.IPv4, spec.IPv6} {
		if p.Family != 0 && p.Family != family {
			continue
		}
		only := p
		only.Family = family
		switch its := n.publishedPort(ep, only); {
		case slices.ContainsFunc(its, published):
			beside = true
		case len(its) > 0:
			left = append(left, family)
		}
	}
	if beside && len(left) == 1 {
		p.Family = left[0]
	}
	return p, !beside || len(left) > 0
}

// hostPort is what a published port is looked up by. Whether two collide is
// firewall.Published's to say: it depends on their host addresses, too.
type hostPort struct {
	protocol string
	port     uint16
}

// takenPort is a port of the host with the endpoint that publishes it.
type takenPort struct {
	endpoint  *endpoint
	published firewall.Published
}

type takenPorts map[hostPort][]takenPort

// takePorts and dropPorts keep Engine.hostPorts in step with an endpoint's ports.
func (e *Engine) takePorts(ep *endpoint) {
	if n, ok := e.networks[ep.NetworkID]; ok {
		e.hostPorts.add(ep, n.published(ep))
	}
}

func (e *Engine) dropPorts(ep *endpoint) {
	for _, p := range ep.Ports {
		key := hostPort{p.Protocol, p.HostPort}
		others := slices.DeleteFunc(e.hostPorts[key], func(t takenPort) bool { return t.endpoint == ep })
		if e.hostPorts[key] = others; len(others) == 0 {
			delete(e.hostPorts, key)
		}
	}
}

func (t takenPorts) add(ep *endpoint, published []firewall.Published) {
	for _, p := range published {
		if p.HostPort != 0 {
			key := hostPort{p.Protocol, p.HostPort}
			t[key] = append(t[key], takenPort{ep, p})
		}
	}
}

// pickHostPort finds a host port that can be translated to all of the
// container's addresses: the same for both families.
func (e *Engine) pickHostPort(n *network, ep *endpoint, p spec.Port, own takenPorts) (spec.Port, error) {
	first, last := p.HostPort, max(p.HostPort, p.HostEnd)
	if first == 0 {
		first, last = firstDynamicPort, lastDynamicPort
	}
	p.HostPort = first
	wants := n.publishedPort(ep, p)
	var why error
	for port := int(first); port <= int(last); port++ {
		p.HostPort = uint16(port)
		taken := false
		for i := range wants {
			if wants[i].HostPort == 0 {
				continue
			}
			wants[i].HostPort = p.HostPort
			_, its := e.publisher(ep, wants[i], own)
			taken = taken || its
		}
		if taken && port < int(last) {
			continue // thousands may be, and who has them is said of the last
		}
		if why = e.portFree(n, ep, p, own, false); why == nil {
			return p, nil
		}
	}
	return spec.Port{}, why
}

// publisher is what a host port that is to be published collides with: a port of another
// endpoint's, or one before in the same request.
func (e *Engine) publisher(ep *endpoint, want firewall.Published, own takenPorts) (takenPort, bool) {
	key := hostPort{want.Protocol, want.HostPort}
	for _, t := range own[key] {
		if want.Collides(t.published) {
			return t, true
		}
	}
	for _, t := range e.hostPorts[key] {
		if t.endpoint != ep && want.Collides(t.published) {
			return t, true
		}
	}
	return takenPort{}, false
}

// portFree says who has a host port that is to be published: another endpoint,
// another port of the same request, or a program of the host. What the endpoint holds,
// since it is translated already, no program gets anything of.
func (e *Engine) portFree(n *network, ep *endpoint, p spec.Port, own takenPorts, holds bool) error {
	for _, want := range n.publishedPort(ep, p) {
		if want.HostPort == 0 {
			continue
		}
		switch t, taken := e.publisher(ep, want, own); {
		case taken && t.endpoint == ep:
			return fmt.Errorf("host port %d/%s is asked for twice, for the container's ports %d and %d", p.HostPort, p.Protocol, t.published.Port, p.Port)
		case taken:
			return fmt.Errorf("host port %d/%s is published by endpoint %s already", p.HostPort, p.Protocol, spec.ShortID(t.endpoint.ID))
		}
		if n.FrontEnd != "" || holds {
			continue // Podman keeps the host's ports occupied by itself, for as long as the container runs
		}
		if err := e.Host.PortFree(p.Protocol, want.HostIP, p.HostPort); err != nil {
			return fmt.Errorf("host port %d/%s: %w", p.HostPort, p.Protocol, err)
		}
	}
	return nil
}

// offers reports whether a host port is one of those that a port was asked for by.
func offers(p spec.Port, port uint16) bool {
	return p.HostPort == 0 || p.HostPort <= port && port <= max(p.HostPort, p.HostEnd)
}

// hostIP is the host's address from which a published port is translated to the
// container's address: the one named, the network's default, or any.
func (n *network) hostIP(p spec.Port, to netip.Addr) netip.Addr {
	bound := n.bound(p)
	switch {
	case bound.IsValid():
		return bound
	case to.Is6():
		return netip.IPv6Unspecified()
	default:
		return netip.IPv4Unspecified()
	}
}

// bound is the one address of the host, if any, on which a port is published: the one that
// it was asked for with, or the network's (host_binding_ipv4). In the other family it is
// not published then, as by Docker's bridge (moby
// libnetwork/drivers/bridge/port_mapping_linux.go, configurePortBindingIPv6).
func (n *network) bound(p spec.Port) netip.Addr {
	if p.HostIP.IsValid() || n.Options.HostBinding4.IsUnspecified() {
		return p.HostIP
	}
	return n.Options.HostBinding4
}

// translated are the endpoint's addresses to which a published port is
// translated from the host's own; opened are those opened as they are. A port of
// the host leads to one address of each family: while a network is renumbered to
// that in use, which is the first, and connections to former ones stay tracked.
func (n *network) translated(ep *endpoint, p spec.Port) []netip.Addr {
	return n.publishedTo(ep, p, true)
}

func (n *network) opened(ep *endpoint, p spec.Port) []netip.Addr {
	return n.publishedTo(ep, p, false)
}

func (n *network) publishedTo(ep *endpoint, p spec.Port, translated bool) []netip.Addr {
	var addrs []netip.Addr
	bound := n.bound(p)
	for i, a := range n.AddressesOf(ep.Endpoint) {
		if translated && i > 0 && a.Is6() {
			continue // a former one
		}
		if bound.IsValid() && bound.Is4() != a.Is4() || !p.Family.Has(a) {
			continue
		}
		if n.translates(a) == translated {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// translates reports whether the container's address is hidden behind the host's.
func (n *network) translates(a netip.Addr) bool {
	if a.Is4() {
		return n.Options.GatewayMode4.Translates()
	}
	for _, s := range n.Present() {
		if s.Prefix.Contains(a) {
			return n.MasqueradesIPv6(s)
		}
	}
	return false
}

// checkHostIP refuses a host address that would have to mean something it
// cannot: an address that is not translated is opened to everyone or not at all.
func (n *network) checkHostIP(ep *endpoint, p spec.Port) error {
	if p.HostIP.Is6() && p.HostIP.IsLoopback() {
		return fmt.Errorf("port %d/%s on host address ::1: IPv6 loopback cannot be translated to a container (publish on 127.0.0.1, or reach the container by its own address)", p.Port, p.Protocol)
	}
	if !n.isRouted() && p.HostPort != 0 && p.HostPort != p.Port {
		return fmt.Errorf("host port %d for port %d/%s: with mode=%s nothing is translated, a container is reached at its own address and ports (publish %d:%d, or nothing)", p.HostPort, p.Port, p.Protocol, n.Options.Mode, p.Port, p.Port)
	}
	if !p.HostIP.IsValid() || p.HostIP.IsUnspecified() || len(n.opened(ep, p)) == 0 {
		return nil
	}
	return fmt.Errorf("port %d/%s on host address %s: the container has an address of its own that is not translated (publish without a host address, or use masquerade=on)", p.Port, p.Protocol, p.HostIP)
}
