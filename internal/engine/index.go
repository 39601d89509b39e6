package engine

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

func (e *Engine) network(id string) (*network, error) {
	n, ok := e.networks[id]
	if !ok {
		return nil, fmt.Errorf("network %s: %w", spec.ShortID(id), spec.ErrNotFound)
	}
	return n, nil
}

func (e *Engine) endpoint(networkID, id string) (*endpoint, error) {
	ep, ok := e.endpoints[id]
	if !ok || ep.NetworkID != networkID {
		return nil, fmt.Errorf("network %s: endpoint %s: %w", spec.ShortID(networkID), spec.ShortID(id), spec.ErrNotFound)
	}
	return ep, nil
}

// living is an endpoint that is not being deleted, which takes a while without Engine.mu.
func (e *Engine) living(networkID, id string) (*endpoint, error) {
	ep, err := e.endpoint(networkID, id)
	if err == nil && ep.Phase == spec.PhaseDeleting {
		return nil, fmt.Errorf("network %s: endpoint %s is being deleted: %w", spec.ShortID(networkID), spec.ShortID(id), spec.ErrNotFound)
	}
	return ep, err
}

// isKnown reports whether a network is there already.
func (e *Engine) isKnown(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.networks[id]
	return ok
}

// subnet is a subnet of a network that is there already.
func (e *Engine) subnet(networkID string, p netip.Prefix) (s spec.Subnet, known bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n, ok := e.networks[networkID]; ok {
		for _, s := range n.Subnets() {
			if s.Prefix == p {
				return s, true
			}
		}
	}
	return spec.Subnet{}, false
}

func (e *Engine) allNetworks() []*network {
	networks := make([]*network, 0, len(e.networks))
	for _, id := range sortedIDs(e.networks) {
		networks = append(networks, e.networks[id])
	}
	return networks
}

// endpointsOf are a network's endpoints in a stable order.
func (e *Engine) endpointsOf(networkID string) []*endpoint {
	mine := e.byNetwork[networkID]
	eps := make([]*endpoint, 0, len(mine))
	for _, id := range sortedIDs(mine) {
		eps = append(eps, mine[id])
	}
	return eps
}

func sortedIDs[T any](m map[string]T) []string {
	ids := make([]string, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// remember makes an endpoint known under its ID, link and addresses.
func (e *Engine) remember(ep *endpoint) {
	e.endpoints[ep.ID] = ep
	e.byLink[e.modeOf(ep.Endpoint).link(ep.ID)] = ep
	for _, l := range ep.Leases() {
		if l.IsValid() {
			e.byAddr[l.Addr()] = ep
		}
	}
	if e.byNetwork[ep.NetworkID] == nil {
		e.byNetwork[ep.NetworkID] = map[string]*endpoint{}
	}
	e.byNetwork[ep.NetworkID][ep.ID] = ep
	e.enter(ep, ep.Sandbox)
	e.takePorts(ep)
}

func (e *Engine) forget(ep *endpoint) {
	delete(e.endpoints, ep.ID)
	delete(e.byLink, e.modeOf(ep.Endpoint).link(ep.ID))
	for _, l := range ep.Leases() {
		if l.IsValid() {
			delete(e.byAddr, l.Addr())
		}
	}
	delete(e.byNetwork[ep.NetworkID], ep.ID)
	if len(e.byNetwork[ep.NetworkID]) == 0 {
		delete(e.byNetwork, ep.NetworkID)
	}
	e.enter(ep, "")
	e.dropPorts(ep)
}

// enter takes in which sandbox an endpoint is in; empty: none.
func (e *Engine) enter(ep *endpoint, sandbox string) {
	delete(e.bySandbox[ep.Sandbox], ep.ID)
	if len(e.bySandbox[ep.Sandbox]) == 0 {
		delete(e.bySandbox, ep.Sandbox)
	}
	ep.Sandbox = sandbox
	if sandbox == "" {
		return
	}
	if e.bySandbox[sandbox] == nil {
		e.bySandbox[sandbox] = map[string]*endpoint{}
	}
	e.bySandbox[sandbox][ep.ID] = ep
}
