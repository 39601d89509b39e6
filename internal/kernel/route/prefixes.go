package route

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/spec"
)

// Taken lists the prefixes in use on this host that overlap another one, sorted:
// the destinations of all routes of all tables, also of those that reject, and
// the addresses of all links, also of those that are down, each alone (/128 or
// /32) and with its prefix. Every one is there once, also one inside another.
// Default routes are left out, link-local, multicast and loopback prefixes, and the
// routes of [Handle.EnsureUnreachable]: what nobody uses yet has those.
func (h *Handle) Taken(ctx context.Context, where netip.Prefix) ([]netip.Prefix, error) {
	family := familyOf(where)
	routes, err := h.routes(ctx, which{family: family}, func(r route) bool {
		return r.to.Overlaps(where) && !isCompanion(r) && !isUnreachable(r) && isNetwork(r.to)
	})
	if err != nil {
		return nil, err
	}
	var taken []netip.Prefix
	for _, r := range routes {
		taken = append(taken, r.to.Masked())
	}
	addrs, err := h.addresses(ctx, 0, family)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		p, ok := netipx.FromStdIPNet(a.IPNet)
		if !ok || !p.Overlaps(where) || !isNetwork(p) {
			continue
		}
		taken = append(taken, p.Masked())
		if alone := netip.PrefixFrom(p.Addr(), p.Addr().BitLen()); alone.Overlaps(where) {
			taken = append(taken, alone)
		}
	}
	slices.SortFunc(taken, netip.Prefix.Compare)
	return slices.Compact(taken), nil
}

// isCompanion reports whether a route is one that the kernel makes beside each
// address, of the subnet's broadcast or subnet-router anycast address (RFC 4291
// §2.6.1). Nobody has those for his own.
func isCompanion(r route) bool {
	return r.kind == unix.RTN_BROADCAST || r.kind == unix.RTN_ANYCAST
}

// isNetwork reports whether a prefix may be some host's or network's.
func isNetwork(p netip.Prefix) bool {
	a := p.Addr()
	return p.Bits() > 0 && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsLoopback()
}

// OnLink are the prefixes of [Handle.OnLinkFor].
func (h *Handle) OnLink(ctx context.Context, link string) ([]netip.Prefix, error) {
	all, _, err := h.OnLinkFor(ctx, link)
	if err != nil {
		return nil, err
	}
	prefixes := make([]netip.Prefix, 0, len(all))
	for _, p := range all {
		prefixes = append(prefixes, p.Prefix)
	}
	return prefixes, nil
}

// OnLinkFor lists the IPv6 prefixes that are on-link at a link, sorted, and for how long:
// those of its addresses, and those that a router advertisement says are on-link (RFC 4861
// §6.3.4) though the link has no address in them. Single addresses (/128) and
// link-local prefixes are none.
//
// Prefixes whose addresses are all deprecated come last: they are on-link
// still, but are being renumbered away (RFC 4862 §5.5.4), or an administrator
// made them so to steer source address selection. The error matches
// [fs.ErrNotExist] where there is no such link, and [errors.ErrUnsupported] where
// it has no neighbor discovery: what comes to such a link was routed there.
//
// up says whether the link is up and has a carrier: one without it has what was set by hand.
func (h *Handle) OnLinkFor(ctx context.Context, link string) (has []spec.OnLinkPrefix, up bool, err error) {
	l, err := h.link(link)
	if err != nil {
		return nil, false, err
	}
	if !hasNeighbours(l) {
		return nil, false, fmt.Errorf("link %s (%s) has no neighbor discovery: %w", link, l.Type(), errors.ErrUnsupported)
	}
	addrs, err := h.addresses(ctx, l.Attrs().Index, netlink.FAMILY_V6)
	if err != nil {
		return nil, false, fmt.Errorf("prefixes of %s: %w", link, err)
	}
	found := map[netip.Prefix]spec.OnLinkPrefix{}
	for _, a := range addrs {
		p, ok := netipx.FromStdIPNet(a.IPNet)
		if p = p.Masked(); !ok || !isShared(p) {
			continue
		}
		// An advertisement takes the flag away, and it comes back a moment after
		// (net/ipv6/addrconf.c, addrconf_prefix_rcv_add_addr and addrconf_verify_rtnl).
		deprecated := a.Flags&unix.IFA_F_DEPRECATED != 0 || a.PreferedLft == 0
		now := spec.OnLinkPrefix{Prefix: p, Deprecated: deprecated, Valid: lifetime(a.ValidLft)}
		if before, seen := found[p]; seen {
			now.Deprecated = now.Deprecated && before.Deprecated
			now.Valid = longer(now.Valid, before.Valid)
		}
		found[p] = now
	}
	atLink := unicast(netlink.FAMILY_V6)
	atLink.link = l.Attrs().Index
	routes, err := h.routes(ctx, atLink, isConnected)
	if err != nil {
		return nil, false, fmt.Errorf("prefixes of %s: %w", link, err)
	}
	for _, r := range routes {
		p := r.to.Masked()
		if _, seen := found[p]; !seen {
			found[p] = spec.OnLinkPrefix{Prefix: p, ByRoute: true}
		}
	}
	has = slices.SortedFunc(maps.Values(found), func(a, b spec.OnLinkPrefix) int {
		switch {
		case a.Deprecated == b.Deprecated:
			return a.Prefix.Compare(b.Prefix)
		case a.Deprecated:
			return 1
		default:
			return -1
		}
	})
	return has, isUp(l), nil
}

// lifetime is what is left of an address's, as [spec.OnLinkPrefix] has it.
func lifetime(seconds int) time.Duration {
	if seconds == math.MaxUint32 { // INFINITY_LIFE_TIME
		return 0
	}
	return max(time.Duration(seconds)*time.Second, time.Second)
}

func longer(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// Connected lists the prefixes that are directly on links and that part is a part of, by
// the link's name: those of the links' addresses, and those that a router
// advertisement says are on-link. Links that nobody is behind are left out.
func (h *Handle) Connected(ctx context.Context, part netip.Prefix) (map[string][]netip.Prefix, error) {
	routes, err := h.routes(ctx, unicast(familyOf(part)), func(r route) bool {
		whole := r.to
		return isConnected(r) && whole.Bits() < part.Bits() && whole.Overlaps(part)
	})
	if err != nil {
		return nil, err
	}
	connected := map[string][]netip.Prefix{}
	for _, r := range routes {
		l, err := h.linkByIndex(r.link)
		if err != nil {
			return nil, err
		}
		if l == nil || isBarren(l) {
			continue
		}
		name, p := l.Attrs().Name, r.to.Masked()
		if !slices.Contains(connected[name], p) {
			connected[name] = append(connected[name], p)
		}
	}
	return connected, nil
}

func familyOf(p netip.Prefix) int {
	if p.Addr().Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// isBarren reports whether a link leads to nobody: loopback, and those that have
// neither a peer nor neighbours, as dummies, which hold a site's prefix for it.
func isBarren(l netlink.Link) bool {
	flags := l.Attrs().RawFlags
	return flags&unix.IFF_LOOPBACK != 0 || flags&unix.IFF_NOARP != 0 && flags&unix.IFF_POINTOPOINT == 0
}

// isConnected reports whether a route says that its destination is on the link
// itself, by an address of the link or a router advertisement.
func isConnected(r route) bool {
	return r.kind == unix.RTN_UNICAST && !r.router.IsValid() && !r.other && len(r.several) == 0 &&
		(r.protocol == unix.RTPROT_KERNEL || r.protocol == unix.RTPROT_RA) && isShared(r.to)
}

// IsOfLink reports whether a route may be one that says which prefix is on a link, by who
// has made it and where it leads.
func IsOfLink(protocol uint8, to netip.Prefix) bool {
	return (protocol == unix.RTPROT_KERNEL || protocol == unix.RTPROT_RA) && to.Addr().Is6() && isShared(to)
}

// hasNeighbours reports whether the nodes of a link find each other by neighbor
// discovery as on Ethernet. Those of PPP, WireGuard and other tunnels need none.
func hasNeighbours(l netlink.Link) bool {
	a := l.Attrs()
	return a.EncapType == "ether" && a.RawFlags&(unix.IFF_NOARP|unix.IFF_POINTOPOINT) == 0
}

// isShared reports whether a prefix may hold hosts of one link.
func isShared(p netip.Prefix) bool { return isNetwork(p) && p.Bits() < p.Addr().BitLen() }
