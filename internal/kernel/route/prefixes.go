package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// Taken lists the prefixes of either family that are in use on this host, sorted:
// the destinations of all routes of all tables, also of those that reject, and
// the addresses of all links, also of those that are down, each alone (/128 or
// /32) and with its prefix. Every one is there once, also one inside another.
// Default routes are left out, link-local, multicast and loopback prefixes, and the
// routes of [Handle.EnsureUnreachable]: what nobody uses yet has those.
func (h *Handle) Taken(ctx context.Context) ([]netip.Prefix, error) {
	var taken []netip.Prefix
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.routes(ctx, family, true, func(r netlink.Route) bool {
			return !isCompanion(r) && !isUnreachable(r) && isNetwork(destination(r))
		})
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			taken = append(taken, destination(r).Masked())
		}
	}
	addrs, err := h.addresses(ctx, nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if p, ok := netipx.FromStdIPNet(a.IPNet); ok && isNetwork(p) {
			taken = append(taken, p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
		}
	}
	slices.SortFunc(taken, netip.Prefix.Compare)
	return slices.Compact(taken), nil
}

// isCompanion reports whether a route is one that the kernel makes beside each
// address, of the subnet's broadcast or subnet-router anycast address (RFC 4291
// §2.6.1). Nobody has those for his own.
func isCompanion(r netlink.Route) bool {
	return r.Type == unix.RTN_BROADCAST || r.Type == unix.RTN_ANYCAST
}

// isNetwork reports whether a prefix may be some host's or network's.
func isNetwork(p netip.Prefix) bool {
	a := p.Addr()
	return p.Bits() > 0 && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsLoopback()
}

// OnLink lists the IPv6 prefixes that are on-link at a link, sorted: those of its
// addresses, and those that a router advertisement says are on-link (RFC 4861
// §6.3.4) though the link has no address in them. Single addresses (/128) and
// link-local prefixes are none.
//
// Prefixes whose addresses are all deprecated come last: they are on-link
// still, but are being renumbered away (RFC 4862 §5.5.4), or an administrator
// made them so to steer source address selection. The error matches
// [fs.ErrNotExist] where there is no such link, and [errors.ErrUnsupported] where
// it has no neighbor discovery: what comes to such a link was routed there.
func (h *Handle) OnLink(ctx context.Context, link string) ([]netip.Prefix, error) {
	l, err := h.link(link)
	if err != nil {
		return nil, err
	}
	if !hasNeighbours(l) {
		return nil, fmt.Errorf("link %s (%s) has no neighbor discovery: %w", link, l.Type(), errors.ErrUnsupported)
	}
	addrs, err := h.addresses(ctx, l, netlink.FAMILY_V6)
	if err != nil {
		return nil, fmt.Errorf("prefixes of %s: %w", link, err)
	}
	deprecated := map[netip.Prefix]bool{}
	for _, a := range addrs {
		p, ok := netipx.FromStdIPNet(a.IPNet)
		if p = p.Masked(); !ok || !isShared(p) {
			continue
		}
		before, seen := deprecated[p]
		deprecated[p] = a.Flags&unix.IFA_F_DEPRECATED != 0 && (before || !seen)
	}
	routes, err := h.routes(ctx, netlink.FAMILY_V6, false, func(r netlink.Route) bool {
		return r.LinkIndex == l.Attrs().Index && isConnected(r)
	})
	if err != nil {
		return nil, fmt.Errorf("prefixes of %s: %w", link, err)
	}
	for _, r := range routes {
		if p := destination(r).Masked(); !deprecated[p] {
			deprecated[p] = false
		}
	}
	prefixes := make([]netip.Prefix, 0, len(deprecated))
	for p := range deprecated {
		prefixes = append(prefixes, p)
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		switch {
		case deprecated[a] == deprecated[b]:
			return a.Compare(b)
		case deprecated[a]:
			return 1
		default:
			return -1
		}
	})
	return prefixes, nil
}

// Connected lists the prefixes of either family that are directly on links, by
// the link's name: those of their addresses, and those that a router
// advertisement says are on-link. Links that nobody is behind are left out.
func (h *Handle) Connected(ctx context.Context) (map[string][]netip.Prefix, error) {
	connected := map[string][]netip.Prefix{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.routes(ctx, family, false, isConnected)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			l, err := h.linkByIndex(r.LinkIndex)
			if err != nil {
				return nil, err
			}
			if l == nil || isBarren(l) {
				continue
			}
			name, p := l.Attrs().Name, destination(r).Masked()
			if !slices.Contains(connected[name], p) {
				connected[name] = append(connected[name], p)
			}
		}
	}
	return connected, nil
}

// isBarren reports whether a link leads to nobody: loopback, and those that have
// neither a peer nor neighbours, as dummies, which hold a site's prefix for it.
func isBarren(l netlink.Link) bool {
	flags := l.Attrs().RawFlags
	return flags&unix.IFF_LOOPBACK != 0 || flags&unix.IFF_NOARP != 0 && flags&unix.IFF_POINTOPOINT == 0
}

// isConnected reports whether a route says that its destination is on the link
// itself, by an address of the link or a router advertisement.
func isConnected(r netlink.Route) bool {
	return r.Type == unix.RTN_UNICAST && r.Gw == nil && r.Via == nil && len(r.MultiPath) == 0 &&
		(r.Protocol == unix.RTPROT_KERNEL || r.Protocol == unix.RTPROT_RA) && isShared(destination(r))
}

// hasNeighbours reports whether the nodes of a link find each other by neighbor
// discovery as on Ethernet. Those of PPP, WireGuard and other tunnels need none.
func hasNeighbours(l netlink.Link) bool {
	a := l.Attrs()
	return a.EncapType == "ether" && a.RawFlags&(unix.IFF_NOARP|unix.IFF_POINTOPOINT) == 0
}

// isShared reports whether a prefix may hold hosts of one link.
func isShared(p netip.Prefix) bool { return isNetwork(p) && p.Bits() < p.Addr().BitLen() }
