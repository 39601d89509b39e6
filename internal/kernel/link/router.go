package link

import (
	"context"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/spec"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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
			names = append(names, l.name)
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
		if l.isBridge() && mayHaveRouter(l, links) {
			names = append(names, l.name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// IsRouterLink reports whether a link is one of [Handle.RouterLinks]. The error
// matches [ErrNotFound] where there is no such link.
func (h *Handle) IsRouterLink(ctx context.Context, name string) (bool, error) {
	l, err := h.entry(name)
	if err != nil {
		return false, err
	}
	var links []entry
	// It depends on its ports, or on its master; but not one of ours.
	if !strings.HasPrefix(l.alias, spec.LinkAliasMark) && (l.isBridge() || l.master != 0) {
		if links, err = h.list(ctx); err != nil {
			return false, err
		}
	}
	return mayHaveRouter(l, links), nil
}

// mayHaveRouter looks at the other links last: there may be thousands.
func mayHaveRouter(l entry, all []entry) bool {
	if l.flags&unix.IFF_LOOPBACK != 0 || strings.HasPrefix(l.alias, spec.LinkAliasMark) || isPort(l, all) {
		return false
	}
	if !l.isBridge() {
		return true
	}
	return slices.ContainsFunc(all, func(port entry) bool { return port.master == l.index && leadsOut(port) })
}

// isPort reports whether what a link receives is another one's. A member of a VRF
// has its own routes in a table of the VRF's, and all the rest for itself.
func isPort(l entry, all []entry) bool {
	return l.master != 0 && !slices.ContainsFunc(all, func(m entry) bool { return m.index == l.master && m.kind == "vrf" })
}

// leadsOut reports whether a bridge's port is a network card, or stands for
// some, and not the other end of a container or a virtual machine.
func leadsOut(port entry) bool {
	return slices.Contains([]string{device, "vlan", "bond", "team"}, port.kind)
}

// ForeignBridgeHas reports whether a bridge that is not ours has an address of
// the family that is not link-local.
func (h *Handle) ForeignBridgeHas(ctx context.Context, v6 bool) (bool, error) {
	links, err := h.list(ctx)
	if err != nil {
		return false, err
	}
	for _, l := range links {
		if !l.isBridge() || strings.HasPrefix(l.alias, spec.LinkAliasMark) {
			continue
		}
		addrs, err := h.addresses(ctx, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: l.name, Index: l.index}})
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
