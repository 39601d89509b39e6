package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// publications are what endpoints published, before their networks' prefixes changed.
type publications map[*endpoint][]firewall.Published

// publicationsOf is what the endpoints publish now.
func (e *Engine) publicationsOf(endpoints []*endpoint) publications {
	was := publications{}
	for _, ep := range endpoints {
		if n, known := e.networks[ep.NetworkID]; known {
			was[ep] = n.published(ep)
		}
	}
	return was
}

// settlePorts resolves the host ports of endpoints anew, as their networks' prefixes
// are now: an address that is translated needs one of the host's, and one that is not
// needs none. Who was translated by a host port keeps it; of the others the first gets
// it, and what cannot be had is left out and said to be (endpoint.unpublished). Answered
// is what those published before whose records change by that.
func (e *Engine) settlePorts(endpoints []*endpoint, was publications) publications {
	before := map[*endpoint][]spec.Port{}
	for _, ep := range endpoints {
		before[ep] = ep.Ports
	}
	for _, kept := range []bool{true, false} {
		for _, ep := range endpoints {
			n, known := e.networks[ep.NetworkID]
			if !known || len(ep.Asked)+len(ep.Ports) == 0 {
				continue
			}
			if ep.Asked == nil { // of a daemon that kept no more than what came of it
				ep.Asked = ep.Ports
			}
			e.dropPorts(ep)
			s := settling{engine: e, network: n, endpoint: ep, was: was[ep], keptAlone: kept, own: takenPorts{}}
			ep.Ports, ep.unpublished = s.ports()
			e.takePorts(ep)
		}
	}
	changed := publications{}
	for _, ep := range endpoints {
		if !slices.Equal(ep.Ports, before[ep]) {
			changed[ep] = was[ep]
		}
	}
	return changed
}

// settling is that of one endpoint.
type settling struct {
	engine    *Engine
	network   *network
	endpoint  *endpoint
	was       []firewall.Published
	keptAlone bool // leave out what needs a host port that it did not have
	own       takenPorts
}

// ports are the endpoint's, and why some of those that were asked for are not among them.
func (s *settling) ports() ([]spec.Port, error) {
	var ports []spec.Port
	var errs []error
	for _, asked := range s.endpoint.Asked {
		its, err := s.port(asked)
		ports = append(ports, its...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return ports, errors.Join(errs...)
}

// port is what comes of one that was asked for: one for both families, or one for each
// where they differ.
func (s *settling) port(asked spec.Port) ([]spec.Port, error) {
	asked = s.endpoint.possible(asked)
	var its []spec.Port
	var errs []error
	whole, other := true, uint16(0)
	for _, family := range []spec.Family{spec.IPv4, spec.IPv6} {
		if asked.Family != 0 && asked.Family != family {
			continue
		}
		p := asked
		p.Family = family
		if len(s.network.publishedPort(s.endpoint, p)) == 0 {
			continue // no address
		}
		p, published, err := s.inFamily(p, other)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("port %d/%s is not published by IPv%d: %w", asked.Port, asked.Protocol, family, err))
			whole = false
		case !published:
			whole = false
		default:
			its, other = append(its, p), max(other, p.HostPort)
		}
	}
	if whole && !slices.ContainsFunc(its, func(p spec.Port) bool { return p.HostPort != 0 && p.HostPort != other }) {
		asked.HostPort, asked.HostEnd = other, 0
		its = []spec.Port{asked}
	}
	return its, errors.Join(errs...)
}

// inFamily resolves a port of one family; other is the host port of the other one, if
// it is translated there.
func (s *settling) inFamily(p spec.Port, other uint16) (spec.Port, bool, error) {
	e, n, ep := s.engine, s.network, s.endpoint
	if err := n.checkHostIP(ep, p); err != nil {
		return p, false, err
	}
	if _, left := e.besideOwn(n, ep, p); !left {
		return p, false, nil
	}
	if len(n.translated(ep, p)) == 0 {
		p.HostPort, p.HostEnd = 0, 0
		return p, true, nil
	}
	had := s.had(p)
	if had == 0 && s.keptAlone {
		return p, false, nil
	}
	for _, port := range []uint16{had, other} {
		exact := p
		exact.HostPort, exact.HostEnd = port, 0
		if port != 0 && offers(p, port) && e.portFree(n, ep, exact, s.own, port == had) == nil {
			s.own.add(ep, n.publishedPort(ep, exact))
			return exact, true, nil
		}
	}
	p, err := e.pickHostPort(n, ep, p, s.own)
	if err != nil {
		return p, false, err
	}
	p.HostEnd = 0
	s.own.add(ep, n.publishedPort(ep, p))
	return p, true, nil
}

// had is the host port by which a port was translated in its one family; 0: by none. Of
// ports that were asked for alike each has its own.
func (s *settling) had(p spec.Port) uint16 {
	for i, w := range s.was {
		if w.HostPort != 0 && w.Protocol == p.Protocol && w.Port == p.Port && p.Family.Has(w.Container) && offers(p, w.HostPort) &&
			w.HostIP == s.network.hostIP(p, w.Container) {
			s.was = slices.Concat(s.was[:i], s.was[i+1:])
			return w.HostPort
		}
	}
	return 0
}

// settleOn makes networks what their records are to be, with the host ports of their
// endpoints; takeBack makes both as they were.
func (e *Engine) settleOn(networks []*network, to []spec.Network, endpoints []*endpoint) (settled publications, takeBack func()) {
	was := e.publicationsOf(endpoints)
	before := make([]spec.Network, len(networks))
	for i, n := range networks {
		before[i], n.Network = n.Network, to[i]
	}
	entries := make([]endpoint, len(endpoints))
	for i, ep := range endpoints {
		entries[i] = *ep
	}
	settled = e.settlePorts(endpoints, was)
	return settled, func() {
		for _, ep := range endpoints {
			e.dropPorts(ep)
		}
		for i, n := range networks {
			n.Network = before[i]
		}
		for i, ep := range endpoints {
			*ep = entries[i]
			e.takePorts(ep)
		}
	}
}

// settleAgain tries once more what could not be published by the endpoints of networks.
func (e *Engine) settleAgain(networks []*network) publications {
	var due []*endpoint
	for _, n := range networks {
		for _, ep := range e.endpointsOf(n.ID) {
			if ep.unpublished != nil && ep.Phase == spec.PhaseReady {
				due = append(due, ep)
			}
		}
	}
	return e.settleAndRecord(due)
}

// settleAll is for a start: a daemon may have been killed between a network's new prefix
// and its endpoints' host ports, and earlier ones let two endpoints have the same.
func (e *Engine) settleAll() {
	var all []*endpoint
	for _, id := range sortedIDs(e.endpoints) {
		if ep := e.endpoints[id]; ep.Phase == spec.PhaseReady {
			all = append(all, ep)
		}
	}
	e.settleAndRecord(all)
}

// settleAndRecord is settlePorts with what comes of it written down. Where that fails
// they are settled again by the next start.
func (e *Engine) settleAndRecord(endpoints []*endpoint) publications {
	changed := e.settlePorts(endpoints, e.publicationsOf(endpoints))
	if len(changed) == 0 {
		return nil
	}
	if err := e.Journal.PutAll(nil, nil, changed.records()); err != nil {
		e.Log.Error("host ports", "err", err)
	}
	return changed
}

// records are those of the endpoints, in a stable order.
func (p publications) records() []spec.Endpoint {
	var all []spec.Endpoint
	for ep := range p {
		all = append(all, ep.Endpoint)
	}
	slices.SortFunc(all, func(a, b spec.Endpoint) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// forgetNewlyTranslated ends what is on the way to the host itself, to UDP ports that
// are translated from now on: see stalePorts. Connections to a container's former
// address stay, for as long as it has that.
func (e *Engine) forgetNewlyTranslated(ctx context.Context, was publications) {
	var opened []firewall.Published
	for ep, before := range was {
		n, known := e.networks[ep.NetworkID]
		if !known {
			continue
		}
		for _, p := range n.published(ep) {
			if p.Protocol == "udp" && p.HostPort != 0 && !slices.ContainsFunc(before, p.Collides) {
				opened = append(opened, p)
			}
		}
	}
	if len(opened) == 0 {
		return
	}
	if err := e.Conntrack.ForgetPorts(ctx, opened); err != nil {
		e.Log.Error("forget connections to ports that are published now", "err", err)
	}
}
