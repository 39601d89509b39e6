package dhcp6

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/rtnl"
)

// A link is one as it was when it was found.
type link struct {
	handle   netlink.Link
	name     string
	index    int
	ethernet bool
}

// find finds a link that is up. The error of one that is down is ENETDOWN.
func find(ctx context.Context, name string) (link, error) {
	found, err := rtnl.Ask(ctx, func(h *netlink.Handle) (netlink.Link, error) { return h.LinkByName(name) })
	if err != nil {
		return link{}, fmt.Errorf("find link %s: %w", name, err)
	}
	attrs := found.Attrs()
	if attrs.RawFlags&unix.IFF_UP == 0 {
		return link{}, fmt.Errorf("link %s: %w", name, unix.ENETDOWN)
	}
	return link{found, name, attrs.Index, attrs.EncapType == "ether"}, nil
}

// linkLocal is the link-local address that messages come from: not one whose
// duplicate address detection goes on or has failed.
func (l link) linkLocal(ctx context.Context) (netip.Addr, error) {
	list, err := rtnl.Ask(ctx, func(h *netlink.Handle) ([]netlink.Addr, error) { return h.AddrList(l.handle, netlink.FAMILY_V6) })
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list addresses of link %s: %w", l.name, err)
	}
	for _, a := range list {
		addr, ok := netip.AddrFromSlice(a.IP)
		if ok && addr.IsLinkLocalUnicast() && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("link %s has no link-local address that may be used yet: DHCPv6 needs one", l.name)
}
