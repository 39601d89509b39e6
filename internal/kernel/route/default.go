package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/v6net/v6net/internal/kernel/rtnl"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoDefault says that no IPv6 default route leads anywhere now.
var ErrNoDefault = errors.New("this host has no usable IPv6 default route")

// DefaultParent names the link of the best IPv6 default route of the main
// table: the one of the lowest metric whose link is up and has carrier; of a
// multipath route the next hop of the greatest weight. The error matches
// [ErrNoDefault] where there is none.
func (h *Handle) DefaultParent(ctx context.Context) (string, error) {
	defaults, err := h.routes(ctx, unicast(netlink.FAMILY_V6), isDefault)
	if err != nil {
		return "", err
	}
	slices.SortStableFunc(defaults, func(a, b route) int { return a.metric - b.metric })
	for _, r := range defaults {
		for _, index := range nextHopLinks(r) {
			l, err := h.linkByIndex(index)
			if err != nil {
				return "", err
			}
			if l != nil && isUsable(l) {
				return l.Attrs().Name, nil
			}
		}
	}
	return "", ErrNoDefault
}

// RALinks names the links that a router advertisement gave a default route,
// whoever processed it. The kernel drops such routes of its own when forwarding
// is turned on, unless the link's accept_ra is 2 (addrconf_fixup_forwarding in
// net/ipv6/addrconf.c). Where accept_ra is 0 the route is a network manager's,
// and stays.
func (h *Handle) RALinks(ctx context.Context) ([]string, error) {
	defaults, err := h.routes(ctx, which{family: netlink.FAMILY_V6, kind: unix.RTN_UNICAST}, func(r route) bool {
		return r.protocol == unix.RTPROT_RA && isDefault(r)
	})
	if err != nil {
		return nil, err
	}
	return h.linkNames(ctx, defaults)
}

// DefaultLinks names the links of the default routes of both families in the main table.
func (h *Handle) DefaultLinks(ctx context.Context) ([]string, error) {
	var defaults []route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.routes(ctx, unicast(family), isDefault)
		if err != nil {
			return nil, err
		}
		defaults = append(defaults, routes...)
	}
	return h.linkNames(ctx, defaults)
}

// linkNames are those of the routes' links, sorted; links that have gone since are left out.
func (h *Handle) linkNames(ctx context.Context, routes []route) ([]string, error) {
	var names []string
	for _, r := range routes {
		for _, index := range nextHopLinks(r) {
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("read the links of routes: %w", err)
			}
			l, err := h.linkByIndex(index)
			if err != nil {
				return nil, err
			}
			if l != nil {
				names = append(names, l.Attrs().Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// linkByIndex reads a link that a route names; nil when it has gone since.
func (h *Handle) linkByIndex(index int) (netlink.Link, error) {
	l, err := h.netlink.LinkByIndex(index)
	if rtnl.IsAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read link %d of a route: %w", index, err)
	}
	return l, nil
}

// nextHopLinks are the indices of a route's links, the best first.
func nextHopLinks(r route) []int {
	hops := slices.Clone(r.hops())
	slices.SortStableFunc(hops, func(a, b hop) int { return b.weight - a.weight })
	var links []int
	for _, h := range hops {
		links = append(links, h.link)
	}
	return links
}

func isUsable(l netlink.Link) bool {
	return l.Attrs().Flags&net.FlagLoopback == 0 && isUp(l)
}

// isUp reports whether a link is up and has a carrier.
func isUp(l netlink.Link) bool {
	return l.Attrs().Flags&net.FlagUp != 0 && l.Attrs().RawFlags&unix.IFF_LOWER_UP != 0
}
