package engine

import (
	"context"
	"fmt"

	"github.com/v6net/v6net/internal/spec"
)

// address: a macvlan link has a hardware address of its own. In passthru mode it
// has the parent's, and the parent's becomes what it is given. An ipvlan link
// has the parent's and no other.
func (m onParent) address(ctx context.Context, n *network, ep *spec.Endpoint) error {
	switch {
	case n.Options.Mode == spec.ModeIPvlan:
		return m.ipvlanAddress(ctx, n, ep)
	case n.Options.MacvlanMode == spec.MacvlanPassthru:
		return m.passthruAddress(ctx, n, ep)
	}
	return n.madeAddress(ep)
}

func (m onParent) passthruAddress(ctx context.Context, n *network, ep *spec.Endpoint) error {
	for _, other := range m.endpointsOf(n.ID) {
		if other.ID != ep.ID {
			return fmt.Errorf("macvlan_mode=passthru: parent %s is endpoint %s's alone", n.parent, spec.ShortID(other.ID))
		}
	}
	if ep.MAC == "" {
		facts, err := m.Links.Parent(ctx, n.parent)
		if err != nil {
			return fmt.Errorf("parent %s: %w", n.parent, err)
		}
		ep.MAC = facts.MAC
	}
	return n.madeAddress(ep)
}
