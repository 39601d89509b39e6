package link

import (
	"context"
	"net"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/spec"
	"github.com/vishvananda/netlink"
)

// RouterLinks names the links on which a router may be, sorted: all but
// loopback, links of ours, ports of bridges and bonds, and bridges whose ports
// are containers' and virtual machines' alone.
func (h *Handle) RouterLinks(ctx context.Context) ([]string, error) {
	links, err := h.list(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range links {
		if mayHaveRouter(l, links) {
			names = append(names, l.Attrs().Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Uplinks names the bridges that have a network card among their ports, sorted: what goes
// there leaves the host.
func (h *Handle) Uplinks(ctx context.Context) ([]string, error) {
	links, err := h.list(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range links {
		if isBridge(l) && mayHaveRouter(l, links) {
			names = append(names, l.Attrs().Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// IsRouterLink reports whether a link is one of [Handle.RouterLinks]. The error
// matches [ErrNotFound] where there is no such link.
func (h *Handle) IsRouterLink(ctx context.Context, name string) (bool, error) {
	l, err := h.find(name)
	if err != nil {
		return false, err
	}
	var links []netlink.Link
	if isBridge(l) || l.Attrs().MasterIndex != 0 { // it depends on its ports, or on its master
		if links, err = h.list(ctx); err != nil {
			return false, err
		}
	}
	return mayHaveRouter(l, links), nil
}

func mayHaveRouter(l netlink.Link, all []netlink.Link) bool {
	a := l.Attrs()
	if a.Flags&net.FlagLoopback != 0 || isPort(l, all) || strings.HasPrefix(a.Alias, spec.LinkAliasMark) {
		return false
	}
	if !isBridge(l) {
		return true
	}
	return slices.ContainsFunc(all, func(port netlink.Link) bool {
		return port.Attrs().MasterIndex == a.Index && leadsOut(port)
	})
}

// isPort reports whether what a link receives is another one's. A member of a VRF
// has its own routes in a table of the VRF's, and all the rest for itself.
func isPort(l netlink.Link, all []netlink.Link) bool {
	master := l.Attrs().MasterIndex
	return master != 0 && !slices.ContainsFunc(all, func(m netlink.Link) bool { return m.Attrs().Index == master && m.Type() == "vrf" })
}

// leadsOut reports whether a bridge's port is a network card, or stands for
// some, and not the other end of a container or a virtual machine.
func leadsOut(port netlink.Link) bool {
	return slices.Contains([]string{"device", "vlan", "bond", "team"}, port.Type())
}

func isBridge(l netlink.Link) bool { return l.Type() == "bridge" }

// ForeignBridgeHas reports whether a bridge that is not ours has an address of
// the family that is not link-local.
func (h *Handle) ForeignBridgeHas(ctx context.Context, v6 bool) (bool, error) {
	links, err := h.list(ctx)
	if err != nil {
		return false, err
	}
	for _, l := range links {
		if !isBridge(l) || strings.HasPrefix(l.Attrs().Alias, spec.LinkAliasMark) {
			continue
		}
		addrs, err := h.addresses(ctx, l)
		if err != nil {
			return false, err
		}
		for _, a := range addrs {
			if isIPv6 := a.IP.To4() == nil; isIPv6 == v6 && !a.IP.IsLinkLocalUnicast() {
				return true, nil
			}
		}
	}
	return false, nil
}
