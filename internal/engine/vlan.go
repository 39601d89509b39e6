package engine

import (
	"context"

	"github.com/v6net/v6net/internal/spec"
)

// ensureVLAN makes a parent that is a VLAN sub-interface, if it is not there. The
// host itself is not to take a place on that VLAN: it takes no advertisements there.
func (e *Engine) ensureVLAN(ctx context.Context, parent string) error {
	if _, _, isVLAN := spec.ParseVLAN(parent); !isVLAN {
		return nil
	}
	ours, err := e.Links.EnsureVLAN(ctx, parent, false)
	if err != nil || !ours {
		return err
	}
	if err := e.Sysctls.Set(ctx, "net/ipv6/conf/"+parent+"/accept_ra", "0"); err != nil {
		return err
	}
	_, err = e.Links.EnsureVLAN(ctx, parent, true)
	return err
}

// removeVLAN is the way back, unless a network is on it.
func (e *Engine) removeVLAN(ctx context.Context, parent string) error {
	if _, _, isVLAN := spec.ParseVLAN(parent); !isVLAN || e.isParent(parent) {
		return nil
	}
	return e.Links.Remove(ctx, parent, spec.VLANAlias(parent))
}

// isBase reports whether a network's parent is a VLAN sub-interface of the link,
// which has its MTU.
func (n *network) isBase(link string) bool {
	base, _, isVLAN := spec.ParseVLAN(n.parent)
	return isVLAN && !n.isRouted() && base == link
}

// isParent reports whether a network is bound to the link, whatever its mode.
func (e *Engine) isParent(link string) bool {
	for _, n := range e.networks {
		if n.namedParent() == link {
			return true
		}
	}
	return false
}
