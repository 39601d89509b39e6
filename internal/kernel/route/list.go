package route

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/v6net/v6net/internal/kernel/nlattr"
	"github.com/v6net/v6net/internal/kernel/rtnl"
)

// which is what a listing of routes is of; zero values are of any.
type which struct {
	family int
	table  int
	kind   int // RTN_…
	link   int // its index
}

// unicast are a family's routes of the main table that lead somewhere.
func unicast(family int) which {
	return which{family: family, table: unix.RT_TABLE_MAIN, kind: unix.RTN_UNICAST}
}

// routes lists those routes that keep accepts. On a router they are
// a million, so none is kept that is not wanted.
//
// One gap is the kernel's: it resumes an IPv6 dump by counting routes and does
// not mark it as interrupted (fib6_dump_table in net/ipv6/ip6_fib.c), so one of
// more than some 250, the size of a reply, may lack a route while others come
// and go. The default routes come first and are never missed.
func (h *Handle) routes(ctx context.Context, of which, keep func(netlink.Route) bool) ([]netlink.Route, error) {
	routes, err := dump.Retry(ctx, func() ([]netlink.Route, error) {
		var kept []netlink.Route
		what := []nl.NetlinkRequestData{&nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(of.family), Table: uint8(of.table), Type: uint8(of.kind)}}}
		if of.link != 0 {
			what = append(what, nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(of.link))))
		}
		err := h.lists.Each(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, func(message []byte) {
			if r, ok := of.read(message); ok && keep(r) {
				kept = append(kept, r)
			}
		}, what...)
		return kept, err
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

// read reads struct rtmsg and those of its attributes that anybody here asks for
// (rtnetlink(7)). It is not ok for what is not to be listed, and for paths that are remembered.
func (of which) read(b []byte) (r netlink.Route, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return r, false
	}
	bits, table, protocol, kind := int(b[1]), int(b[4]), b[5], int(b[7])
	if int(b[0]) != of.family || binary.NativeEndian.Uint32(b[8:])&unix.RTM_F_CLONED != 0 ||
		of.table != 0 && table != of.table || of.kind != 0 && kind != of.kind {
		return r, false
	}
	size := net.IPv4len
	if of.family == netlink.FAMILY_V6 {
		size = net.IPv6len
	}
	r.Family, r.Table, r.Type, r.Protocol = of.family, table, kind, netlink.RouteProtocol(protocol)
	to := make(net.IP, size) // that of a default route is not said
	for kind, value := range nlattr.All(b[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			copy(to, value)
		case unix.RTA_OIF:
			r.LinkIndex = nlattr.Number(value)
		case unix.RTA_PRIORITY:
			r.Priority = int(uint32(nlattr.Number(value)))
		case unix.RTA_GATEWAY:
			r.Gw = slices.Clone(value)
		case unix.RTA_VIA:
			r.Via = via(value)
		case unix.RTA_MULTIPATH:
			r.MultiPath = hops(value)
		}
	}
	r.Dst = &net.IPNet{IP: to, Mask: net.CIDRMask(bits, 8*size)}
	return r, of.link == 0 || r.LinkIndex == of.link
}

// via is a next hop of the other family.
func via(value []byte) netlink.Destination {
	if len(value) < 2 {
		return nil
	}
	return &netlink.Via{AddrFamily: int(binary.NativeEndian.Uint16(value)), Addr: slices.Clone(value[2:])}
}

// hops are several struct rtnexthop, each with its attributes.
func hops(b []byte) (all []*netlink.NexthopInfo) {
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			break
		}
		hop := &netlink.NexthopInfo{Flags: int(b[2]), Hops: int(b[3]), LinkIndex: int(int32(binary.NativeEndian.Uint32(b[4:])))}
		for kind, value := range nlattr.All(b[unix.SizeofRtNexthop:size]) {
			switch kind {
			case unix.RTA_GATEWAY:
				hop.Gw = slices.Clone(value)
			case unix.RTA_VIA:
				hop.Via = via(value)
			}
		}
		all = append(all, hop)
		b = b[min((size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
	}
	return all
}
