package engine

import (
	"context"

	"github.com/v6net/v6net/internal/spec"
)

// mode is how the containers of a network are attached: by a bridge of ours
// (bridge.go), or by links on the parent (child.go and child_settle.go, with
// macvlan.go and ipvlan.go for what these do not share). But for settle, its
// methods are called with Engine.mu held.
type mode interface {
	// settle completes a network that is to be made, and refuses what does not
	// fit together.
	settle(ctx context.Context, n *spec.Network) error
	// clash says which other network a new one cannot be beside.
	clash(n spec.Network) error

	// apply makes what the network needs with or without containers; it is
	// idempotent. unapply is the way back: the network no longer counts.
	apply(ctx context.Context, n *network) error
	unapply(ctx context.Context, n *network) error

	// link is the name on the host of an endpoint's link.
	link(endpointID string) string
	// address gives an endpoint the hardware address that it is to have.
	address(ctx context.Context, n *network, ep *spec.Endpoint) error
	// attach makes an endpoint's link and what leads to it; it is idempotent.
	// detach is the way back.
	attach(ctx context.Context, n *network, ep *endpoint) error
	detach(ctx context.Context, n *network, ep *endpoint) error
	// attachment is what the runtime does with the endpoint.
	attachment(ctx context.Context, n *network, ep *endpoint) spec.Attachment
	// linkChanged takes in that the endpoint's link on the host changed.
	linkChanged(ctx context.Context, n *network, ep *endpoint, up, deleted bool)
	// announce tells neighbours where the endpoint's addresses are now.
	announce(ctx context.Context, n *network, ep *endpoint)
}

func (e *Engine) mode(o spec.Options) mode {
	if o.OnParent() {
		return onParent{e}
	}
	return bridged{e}
}

// modeOf is the mode of an endpoint's network, a bridge where that is unknown.
func (e *Engine) modeOf(ep spec.Endpoint) mode {
	if n, ok := e.networks[ep.NetworkID]; ok {
		return e.mode(n.Options)
	}
	return bridged{e}
}

// isRouted reports whether this host forwards the network's packets: it does
// for bridges, and has rules for them.
func (n *network) isRouted() bool { return !n.Options.OnParent() }

func (e *Engine) hasRouted() bool {
	for _, n := range e.networks {
		if n.isRouted() {
			return true
		}
	}
	return false
}
