package link

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// ensureAddresses gives a link the wanted addresses, of which the host itself sends from
// no former one, and takes every other from it but the link-local one that the kernel made.
func (h *Handle) ensureAddresses(ctx context.Context, l netlink.Link, current, former []netip.Prefix) error {
	have, err := h.addresses(ctx, l)
	if err != nil {
		return err
	}
	want := slices.Concat(current, former)
	// Deletions come first: to the kernel an IPv6 address is the same with any
	// prefix length, and an IPv4 one takes its secondaries along.
	stale := slices.DeleteFunc(slices.Clone(have), func(a netlink.Addr) bool {
		return isWanted(a, want) || isKernels(a, want)
	})
	for _, a := range stale {
		if err := h.deleteAddress(l, a); err != nil {
			return err
		}
	}
	if len(stale) > 0 {
		if have, err = h.addresses(ctx, l); err != nil {
			return err
		}
	}
	for i, p := range want {
		deprecated := i >= len(current)
		if slices.ContainsFunc(have, func(a netlink.Addr) bool {
			return isWanted(a, []netip.Prefix{p}) && isDeprecated(a) == deprecated
		}) {
			continue
		}
		if err := h.setAddress(l, p, deprecated); err != nil {
			return err
		}
	}
	return nil
}

// isWanted reports whether an address is one of the wanted and as setAddress
// makes it: for ever, with its prefix route, and usable.
func isWanted(a netlink.Addr, want []netip.Prefix) bool {
	p, ok := netipx.FromStdIPNet(a.IPNet)
	if !ok || a.Peer != nil || !slices.Contains(want, p) {
		return false
	}
	set, clear := unix.IFA_F_PERMANENT, unix.IFA_F_NOPREFIXROUTE
	if p.Addr().Is6() {
		set |= unix.IFA_F_NODAD
		clear |= unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	}
	return a.Flags&(set|clear) == set
}

func isDeprecated(a netlink.Addr) bool { return a.Flags&unix.IFA_F_DEPRECATED != 0 }

// isKernels reports whether an address is a link-local one that is not to be
// replaced by a wanted one.
func isKernels(a netlink.Addr, want []netip.Prefix) bool {
	addr, ok := netipx.FromStdIP(a.IP)
	return ok && addr.Is6() && addr.IsLinkLocalUnicast() &&
		!slices.ContainsFunc(want, func(p netip.Prefix) bool { return p.Addr() == addr })
}

func (h *Handle) addresses(ctx context.Context, l netlink.Link) ([]netlink.Addr, error) {
	have, err := h.lists.Addresses(ctx, l.Attrs().Index, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
	}
	return have, nil
}

// setAddress adds an address, or changes whether it is deprecated, which leaves its routes
// alone. There is no duplicate address detection: it is a gateway's, and the first
// container may solicit it at once.
func (h *Handle) setAddress(l netlink.Link, p netip.Prefix, deprecated bool) error {
	name := l.Attrs().Name
	a := &netlink.Addr{IPNet: netipx.PrefixIPNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if deprecated {
		a.ValidLft = math.MaxUint32 // INFINITY_LIFE_TIME, and preferred for none of it
	}
	err := h.netlink.AddrReplace(l, a)
	if p.Addr().Is6() && errors.Is(err, unix.EACCES) { // inet6_addr_add in net/ipv6/addrconf.c
		return fmt.Errorf("add address %s to %s: IPv6 is off there (sysctl net/ipv6/conf/%s/disable_ipv6): %w", p, name, name, err)
	}
	if err != nil {
		return fmt.Errorf("add address %s to %s: %w", p, name, err)
	}
	return nil
}

func (h *Handle) deleteAddress(l netlink.Link, a netlink.Addr) error {
	if err := h.netlink.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) { // gone already
		return fmt.Errorf("delete address %s from %s: %w", a.IPNet, l.Attrs().Name, err)
	}
	return nil
}
