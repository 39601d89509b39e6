package engine

import (
	"cmp"
	"context"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

// republish publishes a container's ports by its first network that has a way to
// the outside, which is the one of its default route, and by no other: a host port
// leads to one address of each family. Where that network lacks a family, the next
// one that has it stands in. An endpoint that is about to go does not count.
func (e *Engine) republish(ctx context.Context, container, leaving string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.republishLocked(ctx, container, leaving)
}

func (e *Engine) republishLocked(ctx context.Context, container, leaving string) error {
	type share struct {
		endpoint *endpoint
		ports    []spec.Port
	}
	var shares []share
	left := []spec.Family{spec.IPv6, spec.IPv4} // that no endpoint publishes by yet
	for _, ep := range e.ofContainer(container) {
		n, ok := e.networks[ep.NetworkID]
		if !ok || ep.Phase != spec.PhaseReady {
			continue
		}
		var its []spec.Family
		if ep.ID != leaving && !n.Internal {
			its = slices.DeleteFunc(slices.Clone(left), func(f spec.Family) bool { return !slices.ContainsFunc(ep.Addresses(), f.Has) })
			left = slices.DeleteFunc(left, func(f spec.Family) bool { return slices.Contains(its, f) })
		}
		first := len(left)+len(its) == 2
		if !first && (!n.isRouted() || n.Options.Inbound == spec.InboundNone) {
			its = nil // who only stands in is not refused for what it cannot do
		}
		shares = append(shares, share{ep, ofFamilies(ep.Wanted, its)})
	}
	// Who publishes less than before comes first: the last ones, and whoever leaves.
	slices.Reverse(shares)
	slices.SortStableFunc(shares, func(a, b share) int { return cmp.Compare(min(len(a.ports), 1), min(len(b.ports), 1)) })
	for _, s := range shares {
		resolved, err := e.resolvePorts(e.networks[s.endpoint.NetworkID], s.endpoint, s.ports)
		if err != nil {
			return err
		}
		if slices.Equal(resolved, s.endpoint.Ports) && slices.Equal(s.ports, s.endpoint.Asked) {
			continue
		}
		if err := e.setPorts(ctx, s.endpoint, s.ports, resolved); err != nil {
			return err
		}
	}
	return nil
}

// ofFamilies are ports as they are published for some families.
func ofFamilies(ports []spec.Port, families []spec.Family) []spec.Port {
	if len(families) == 0 {
		return nil
	}
	var all []spec.Port
	for _, p := range ports {
		if len(families) == 1 {
			if p.HostIP.IsValid() && !families[0].Has(p.HostIP) || p.Family != 0 && p.Family != families[0] {
				continue
			}
			p.Family = families[0]
		}
		all = append(all, p)
	}
	return all
}
