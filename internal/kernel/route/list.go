package route

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/v6net/v6net/internal/kernel/nlattr"
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
func (h *Handle) routes(ctx context.Context, of which, keep func(route) bool) ([]route, error) {
	routes, err := dump.Retry(ctx, func() ([]route, error) {
		var kept []route
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

// route is what anybody here asks of one. Of thousands most are of no use to who asks, so that
// to read one makes no garbage.
type route struct {
	to             netip.Prefix // zero: of another kind of address (MPLS)
	kind, protocol uint8        // RTN_…, RTPROT_…
	metric         int
	hop                  // if it has one
	several        []hop // the hops of a multipath route
}

// hop is where packets leave to.
type hop struct {
	link   int        // its index
	router netip.Addr // zero: none
	other  bool       // the router is of the other family
	weight int        // of several
}

// hops are all of them.
func (r route) hops() []hop {
	if len(r.several) > 0 {
		return r.several
	}
	return []hop{r.hop}
}

// read reads struct rtmsg and those of its attributes that anybody here asks for
// (rtnetlink(7)). It is not ok for what is not to be listed, and for paths that are remembered.
func (of which) read(b []byte) (r route, ok bool) {
	if len(b) < unix.SizeofRtMsg {
		return r, false
	}
	bits, table, protocol, kind := int(b[1]), int(b[4]), b[5], b[7]
	if int(b[0]) != of.family || binary.NativeEndian.Uint32(b[8:])&unix.RTM_F_CLONED != 0 ||
		of.table != 0 && table != of.table || of.kind != 0 && int(kind) != of.kind {
		return r, false
	}
	r.kind, r.protocol = kind, protocol
	var to [net.IPv6len]byte // that of a default route is not said
	for kind, value := range nlattr.All(b[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			copy(to[:], value)
		case unix.RTA_PRIORITY:
			r.metric = int(uint32(nlattr.Number(value)))
		case unix.RTA_OIF:
			r.link = nlattr.Number(value)
		case unix.RTA_MULTIPATH:
			r.several = hops(value)
		default:
			r.lead(kind, value)
		}
	}
	switch of.family {
	case unix.AF_INET:
		r.to = netip.PrefixFrom(netip.AddrFrom4([4]byte(to[:])), bits)
	case unix.AF_INET6:
		r.to = netip.PrefixFrom(netip.AddrFrom16(to), bits)
	}
	return r, of.link == 0 || r.link == of.link
}

// lead takes in an attribute that says where packets leave to.
func (h *hop) lead(kind uint16, value []byte) {
	switch kind {
	case unix.RTA_GATEWAY:
		h.router, _ = netip.AddrFromSlice(value)
	case unix.RTA_VIA:
		h.other = true
	}
}

// hops are several struct rtnexthop, each with its attributes.
func hops(b []byte) (all []hop) {
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			break
		}
		h := hop{weight: int(b[3]) + 1, link: int(int32(binary.NativeEndian.Uint32(b[4:])))} // rtnh_hops: weight - 1
		for kind, value := range nlattr.All(b[unix.SizeofRtNexthop:size]) {
			h.lead(kind, value)
		}
		all = append(all, h)
		b = b[min((size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
	}
	return all
}
