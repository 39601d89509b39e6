package facts

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/kernel/link"
	"github.com/v6net/v6net/internal/kernel/rtnl"
)

func links(ctx context.Context, f *doctor.Facts) error {
	all, err := rtnl.Ask(ctx, func(h *netlink.Handle) ([]netlink.Link, error) { return h.LinkList() })
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	addrs, err := rtnl.Ask(ctx, func(h *netlink.Handle) ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_V6) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	handle, err := link.New()
	if err != nil {
		return err
	}
	defer handle.Close()
	routers, err := handle.RouterLinks(ctx)
	if err != nil {
		return err
	}
	for _, l := range all {
		a := l.Attrs()
		found := doctor.Link{
			Name: a.Name, Kind: l.Type(), Alias: a.Alias, MTU: a.MTU,
			Up: a.Flags&net.FlagUp != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
			MayRouter: slices.Contains(routers, a.Name),
			Neighbors: a.EncapType == "ether" && a.RawFlags&(unix.IFF_NOARP|unix.IFF_POINTOPOINT) == 0,
		}
		if b, ok := l.(*netlink.Bridge); ok {
			found.Snooping = b.MulticastSnooping == nil || *b.MulticastSnooping
		}
		for _, addr := range addrs {
			p, ok := netipx.FromStdIPNet(addr.IPNet)
			if ok && addr.LinkIndex == a.Index && addr.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
				found.Addresses = append(found.Addresses, p)
			}
		}
		f.Links = append(f.Links, found)
	}
	return nil
}

// proxyEntries are the addresses for which the kernel answers itself.
func proxyEntries(ctx context.Context, f *doctor.Facts) error {
	entries, err := rtnl.Ask(ctx, func(h *netlink.Handle) ([]netlink.Neigh, error) { return h.NeighProxyList(0, netlink.FAMILY_V6) })
	if err != nil {
		return fmt.Errorf("list proxy entries: %w", err)
	}
	for _, e := range entries {
		addr, ok := netipx.FromStdIP(e.IP)
		l, err := rtnl.Ask(ctx, func(h *netlink.Handle) (netlink.Link, error) { return h.LinkByIndex(e.LinkIndex) })
		if !ok || err != nil {
			continue // the link has gone since, and its entries with it
		}
		f.ProxyEntries = append(f.ProxyEntries, doctor.ProxyEntry{Link: l.Attrs().Name, Addr: addr})
	}
	return nil
}
