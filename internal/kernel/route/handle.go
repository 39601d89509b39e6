// Package route answers what the engine asks about the kernel's routes and
// addresses: where the default route leads, which prefixes are on a link and
// which are in use anywhere. It makes no routes but those that lead nowhere, for
// what is lent to this host.
package route

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/v6net/v6net/internal/kernel/rtnl"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"
)

// Handle reads the routes of one network namespace. Its methods may be called
// from any goroutine.
type Handle struct{ netlink *netlink.Handle }

// New opens a handle on the network namespace of the calling thread.
func New() (*Handle, error) {
	h, err := rtnl.Open()
	if err != nil {
		return nil, err
	}
	return &Handle{h}, nil
}

// Close releases the handle's socket, after the last call.
func (h *Handle) Close() { h.netlink.Close() }

// link reads one link by its first name. The error matches [fs.ErrNotExist].
func (h *Handle) link(name string) (netlink.Link, error) {
	return rtnl.Find(h.netlink, name)
}

// routes lists the routes of a family that keep accepts. On a router they are
// a million, so none is kept that is not wanted. With anyTable they are those
// of every table, else those of the main one.
//
// One gap is the kernel's: it resumes an IPv6 dump by counting routes and does
// not mark it as interrupted (fib6_dump_table in net/ipv6/ip6_fib.c), so one of
// more than some 250, the size of a reply, may lack a route while others come
// and go. The default routes come first and are never missed.
func (h *Handle) routes(ctx context.Context, family int, anyTable bool, keep func(netlink.Route) bool) ([]netlink.Route, error) {
	var mask uint64
	if anyTable {
		mask = netlink.RT_FILTER_TABLE // with the filter's table unspecified
	}
	routes, err := dump.Retry(ctx, func() ([]netlink.Route, error) {
		var kept []netlink.Route
		err := h.netlink.RouteListFilteredIter(family, &netlink.Route{}, mask, func(r netlink.Route) bool {
			if keep(r) {
				kept = append(kept, r)
			}
			return true
		})
		return kept, err
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

func (h *Handle) addresses(ctx context.Context, l netlink.Link, family int) ([]netlink.Addr, error) {
	addrs, err := dump.Retry(ctx, func() ([]netlink.Addr, error) { return h.netlink.AddrList(l, family) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return addrs, nil
}

// destination is what a route leads to; zero for one without (MPLS).
func destination(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		return netip.Prefix{}
	}
	p, _ := netipx.FromStdIPNet(r.Dst)
	return p
}

func isDefault(r netlink.Route) bool {
	d := destination(r)
	return d.IsValid() && d.Bits() == 0
}
