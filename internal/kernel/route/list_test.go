package route

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A message is read as far as it goes, wherever it is cut off.
func TestReadRoute(t *testing.T) {
	to, router := netip.MustParseAddr("2001:db8::"), netip.MustParseAddr("fe80::1")
	hop := binary.NativeEndian.AppendUint16(nil, 0)
	hop = append(hop, 0, 4) // rtnh_flags, and rtnh_hops: a weight of 5
	hop = binary.NativeEndian.AppendUint32(hop, 7)
	hop = append(hop, nl.NewRtAttr(unix.RTA_GATEWAY, router.AsSlice()).Serialize()...)
	binary.NativeEndian.PutUint16(hop, uint16(len(hop)))
	header := nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET6, Dst_len: 32, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_RA, Type: unix.RTN_UNICAST}}
	message := header.Serialize()
	for _, a := range []*nl.RtAttr{
		nl.NewRtAttr(unix.RTA_DST, to.AsSlice()),
		nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(1<<31+1)),
		nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(9)),
		nl.NewRtAttr(unix.RTA_MULTIPATH, append(hop, hop...)),
	} {
		message = append(message, a.Serialize()...)
	}

	of := unicast(netlink.FAMILY_V6)
	r, ok := of.read(message)
	if !ok || r.to != netip.PrefixFrom(to, 32) || r.protocol != unix.RTPROT_RA || r.metric != 1<<31+1 || r.link != 9 || len(r.several) != 2 {
		t.Fatalf("read %+v, %t", r, ok)
	}
	if h := r.several[1]; h.link != 7 || h.weight != 5 || h.router != router {
		t.Errorf("next hop %+v", h)
	}
	for cut := range message {
		if r, ok := of.read(message[:cut]); ok != (cut >= unix.SizeofRtMsg) || len(r.several) > 0 {
			t.Errorf("cut off at %d: %+v, %t", cut, r, ok)
		}
	}
	for name, other := range map[string]which{
		"family": {family: netlink.FAMILY_V4},
		"table":  {family: netlink.FAMILY_V6, table: unix.RT_TABLE_LOCAL},
		"kind":   {family: netlink.FAMILY_V6, kind: unix.RTN_LOCAL},
		"link":   {family: netlink.FAMILY_V6, link: 8},
	} {
		if _, ok := other.read(message); ok {
			t.Errorf("a route of another %s is listed", name)
		}
	}
}

// A host with a thousand networks has nine thousand routes, each of which is read for every
// new network.
func TestReadingRoutesMakesNoGarbage(t *testing.T) {
	header := nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET6, Dst_len: 64, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_KERNEL, Type: unix.RTN_UNICAST}}
	message := header.Serialize()
	for _, a := range []*nl.RtAttr{
		nl.NewRtAttr(unix.RTA_DST, netip.MustParseAddr("2001:db8:5::").AsSlice()),
		nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(256)),
		nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(9)),
		nl.NewRtAttr(unix.RTA_GATEWAY, netip.MustParseAddr("fe80::1").AsSlice()),
	} {
		message = append(message, a.Serialize()...)
	}
	of := unicast(netlink.FAMILY_V6)
	if n := testing.AllocsPerRun(100, func() {
		if r, ok := of.read(message); !ok || r.link != 9 {
			t.Fatalf("read %+v, %t", r, ok)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a route", n)
	}
}
