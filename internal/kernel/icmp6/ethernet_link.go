package icmp6

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/rtnl"
)

// An ethernetLink is a link as it was when it was found.
type ethernetLink struct {
	handle       netlink.Link
	name         string
	index        int
	hardwareAddr [6]byte
}

// findLink finds a link that is up and of the Ethernet kind. The error of one
// that is not there is fs.ErrNotExist, that of one that is down ENETDOWN.
func findLink(ctx context.Context, name string) (ethernetLink, error) {
	link, err := rtnl.Ask(ctx, func(h *netlink.Handle) (netlink.Link, error) { return h.LinkByName(name) })
	if err != nil {
		return ethernetLink{}, notFound(name, err)
	}
	return toEthernet(name, link)
}

// again is the same link as it is now, whatever its name.
func (l ethernetLink) again(ctx context.Context) (ethernetLink, error) {
	link, err := rtnl.Ask(ctx, func(h *netlink.Handle) (netlink.Link, error) { return h.LinkByIndex(l.index) })
	if err != nil {
		return ethernetLink{}, notFound(l.name, err)
	}
	return toEthernet(link.Attrs().Name, link)
}

func notFound(name string, err error) error {
	if rtnl.IsAbsent(err) {
		return absentLink(name)
	}
	return fmt.Errorf("find link %s: %w", name, err)
}

// absentLink is the error of a link that is not there, in words of links.
type absentLink string

func (l absentLink) Error() string { return "link " + string(l) + " not found" }

func (absentLink) Is(target error) bool { return target == fs.ErrNotExist }

func toEthernet(name string, link netlink.Link) (ethernetLink, error) {
	attrs := link.Attrs()
	if attrs.EncapType != "ether" || len(attrs.HardwareAddr) != 6 {
		return ethernetLink{}, fmt.Errorf("link %s is of type %s: neighbor discovery needs Ethernet", name, attrs.EncapType)
	}
	if attrs.RawFlags&unix.IFF_UP == 0 {
		return ethernetLink{}, fmt.Errorf("link %s: %w", name, unix.ENETDOWN)
	}
	return ethernetLink{link, name, attrs.Index, [6]byte(attrs.HardwareAddr)}, nil
}

// addresses are the link's IPv6 addresses.
func (l ethernetLink) addresses(ctx context.Context) ([]netlink.Addr, error) {
	list, err := rtnl.Ask(ctx, func(h *netlink.Handle) ([]netlink.Addr, error) { return h.AddrList(l.handle, netlink.FAMILY_V6) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of link %s: %w", l.name, err)
	}
	return list, nil
}

// linkLocal is a link-local address that may be used as a source, so not one
// whose duplicate address detection goes on or has failed. Zero: there is none.
func (l ethernetLink) linkLocal(ctx context.Context) (netip.Addr, error) {
	list, err := l.addresses(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range list {
		if !usable(a) {
			continue
		}
		if addr, ok := netip.AddrFromSlice(a.IP); ok && addr.IsLinkLocalUnicast() {
			return addr, nil
		}
	}
	return netip.Addr{}, nil
}

func usable(a netlink.Addr) bool {
	return a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 || a.Flags&unix.IFA_F_OPTIMISTIC != 0
}

// gateways are the next hops by which the host reaches other networks over the
// link. To ask for one route costs the same however many the host has.
func (l ethernetLink) gateways() []netip.Addr {
	routes, err := rtnl.Ask(context.Background(), func(h *netlink.Handle) ([]netlink.Route, error) {
		return h.RouteGetWithOptions(globalUnicast.AsSlice(), &netlink.RouteGetOptions{Oif: l.name})
	})
	if err != nil {
		return nil // no such route
	}
	var hops []netip.Addr
	for _, r := range routes {
		if hop, ok := netip.AddrFromSlice(r.Gw); ok && hop.Is6() && r.LinkIndex == l.index {
			hops = append(hops, hop)
		}
	}
	return hops
}

// globalUnicast stands for all of the Internet (RFC 4291 §2.4).
var globalUnicast = netip.MustParseAddr("2000::")
