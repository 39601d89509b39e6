// Package sandbox furnishes a container's network namespace with a link of ours.
//
// It is for front ends whose runtime leaves that to the plugin; Docker moves,
// names and addresses links itself. What no runtime does is to give a container
// that runs another address: Entrance is for that.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/kernel/rtnl"
	"github.com/v6net/v6net/internal/kernel/sysctl"
)

// Link is what a container's link is to be.
type Link struct {
	Name      string // on the host, before it is moved
	Alias     string // it is ours by this
	Rename    string // in the container
	Addresses []netip.Prefix
	OnLink    []netip.Prefix // destinations on the link that its addresses do not say
	Routes    []Route
}

// Route is a route in the container by the link. Its next hop need not be on the
// link by any other route.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr // zero: all of the destination is on the link
	Metric      int
}

// replyTimeout bounds the wait for a reply of the kernel's: the runtime holds a lock
// of the whole host's meanwhile.
const replyTimeout = time.Second

// Furnish moves a link of the calling thread's network namespace into the one at
// path, and makes it what it is to be: named, up, with addresses that are in use when
// Furnish returns, and routes. It is idempotent, and answers the link's hardware
// address.
//
// Addresses get no duplicate address detection (RFC 4862 §5.4): the first packet of
// a container must not wait a second for it, nor fail to bind. Who made the lease
// has seen to it that nobody else has them.
//
// What it made before it failed stays. It is the link's owner who removes the link.
func Furnish(ctx context.Context, path string, want Link) (mac net.HardwareAddr, err error) {
	if err := move(path, want); err != nil {
		return nil, err
	}
	err = netns.Do(path, func() error {
		h, err := handle()
		if err != nil {
			return err
		}
		defer h.Close()
		mac, err = furnish(ctx, h, want)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("link %s in %s: %w", want.Rename, path, err)
	}
	return mac, nil
}

func handle() (*netlink.Handle, error) {
	h, err := rtnl.Open()
	if err != nil {
		return nil, err
	}
	if err := h.SetSocketTimeout(replyTimeout); err != nil {
		h.Close()
		return nil, fmt.Errorf("set timeout of rtnetlink socket: %w", err)
	}
	return h, nil
}

// move hands the link over, if it is still here. Its name here is one that no
// container has a link of.
func move(path string, want Link) error {
	h, err := handle()
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(want.Name)
	if rtnl.IsAbsent(err) {
		return nil // moved before
	}
	if err != nil {
		return fmt.Errorf("read link %s: %w", want.Name, err)
	}
	if l.Attrs().Alias != want.Alias {
		return fmt.Errorf("link %s has alias %q, want %q", want.Name, l.Attrs().Alias, want.Alias)
	}
	target, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("network namespace of the container: %w", err)
	}
	defer func() { _ = target.Close() }()
	if err := h.LinkSetNsFd(l, int(target.Fd())); err != nil {
		return fmt.Errorf("move link %s to %s: %w", want.Name, path, err)
	}
	return nil
}

// furnish runs on a thread that is in the container's namespace.
func furnish(ctx context.Context, h *netlink.Handle, want Link) (net.HardwareAddr, error) {
	l, err := find(ctx, h, want.Alias)
	if err != nil {
		return nil, err
	}
	if l.Attrs().Name != want.Rename {
		if err := h.LinkSetName(l, want.Rename); errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("the container has another link of that name: %w", err)
		} else if err != nil {
			return nil, fmt.Errorf("rename %s: %w", l.Attrs().Name, err)
		}
	}
	if err := settings(ctx, want); err != nil {
		return nil, err
	}
	if err := h.LinkSetUp(l); err != nil { // before the addresses: IPv6 wants that
		return nil, fmt.Errorf("bring up: %w", err)
	}
	for _, p := range want.Addresses {
		if err := addAddress(h, l, p); err != nil {
			return nil, err
		}
	}
	if err := awaitAddresses(ctx, h, want.Addresses); err != nil {
		return nil, err
	}
	for _, p := range want.OnLink {
		if err := addRoute(h, l, Route{Destination: p}); err != nil {
			return nil, err
		}
	}
	for _, r := range want.Routes {
		if err := addRoute(h, l, r); err != nil {
			return nil, err
		}
	}
	return l.Attrs().HardwareAddr, nil
}

// find is the link of an alias, which stays with it wherever it goes.
func find(ctx context.Context, h *netlink.Handle, alias string) (netlink.Link, error) {
	links, err := dump.Retry(ctx, h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Alias == alias {
			return l, nil
		}
	}
	return nil, absentError(alias)
}

// absentError says that no link of that alias is in a namespace.
type absentError string

func (e absentError) Error() string { return fmt.Sprintf("no link with alias %q is here", string(e)) }

// Is makes it fs.ErrNotExist.
func (absentError) Is(target error) bool { return target == fs.ErrNotExist }

// settings: IPv6 is on, whatever new links of this machine get, the link-local
// address is not probed either, and no advertised default route comes beside ours.
func settings(ctx context.Context, want Link) error {
	params := sysctl.New("")
	if !slices.ContainsFunc(want.Addresses, func(a netip.Prefix) bool { return a.Addr().Is6() }) {
		return nil
	}
	type setting struct{ key, value string }
	all := []setting{{"disable_ipv6", "0"}, {"accept_dad", "0"}}
	if slices.ContainsFunc(want.Routes, func(r Route) bool { return r.Destination.Addr().Is6() && r.Destination.Bits() == 0 }) {
		all = append(all, setting{"accept_ra_defrtr", "0"})
	}
	for _, s := range all {
		if err := params.Set(ctx, "net/ipv6/conf/"+want.Rename+"/"+s.key, s.value); err != nil {
			return err
		}
	}
	return nil
}

func addAddress(h *netlink.Handle, l netlink.Link, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: netipx.PrefixIPNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrReplace(l, a); err != nil {
		return fmt.Errorf("add address %s: %w", p, err)
	}
	return nil
}

// awaitAddresses waits until packets to the addresses are taken: the kernel makes
// their routes in a work queue, even without duplicate address detection
// (addrconf_dad_work in net/ipv6/addrconf.c).
func awaitAddresses(ctx context.Context, h *netlink.Handle, addrs []netip.Prefix) error {
	for _, p := range addrs {
		for !isLocal(h, p.Addr()) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("address %s is not in use yet: %w", p.Addr(), ctx.Err())
			case <-time.After(time.Millisecond):
			}
		}
	}
	return nil
}

func isLocal(h *netlink.Handle, addr netip.Addr) bool {
	routes, err := h.RouteGet(addr.AsSlice())
	return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
}

func addRoute(h *netlink.Handle, l netlink.Link, r Route) error {
	route := netlink.Route{
		LinkIndex: l.Attrs().Index,
		Dst:       netipx.PrefixIPNet(r.Destination.Masked()),
		Priority:  r.Metric,
	}
	what := r.Destination.String()
	switch {
	case r.Gateway.IsValid():
		route.Gw = r.Gateway.AsSlice()
		route.SetFlag(netlink.FLAG_ONLINK) // there may be no route to a link-local next hop yet
		what += " by " + r.Gateway.String()
	case r.Destination.Addr().Is4():
		route.Scope = netlink.SCOPE_LINK
	}
	if err := h.RouteReplace(&route); err != nil {
		return fmt.Errorf("add route to %s: %w", what, err)
	}
	return nil
}
