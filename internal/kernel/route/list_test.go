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
	if !ok || destination(r) != netip.PrefixFrom(to, 32) || r.Protocol != unix.RTPROT_RA || r.Priority != 1<<31+1 || r.LinkIndex != 9 || len(r.MultiPath) != 2 {
		t.Fatalf("read %+v, %t", r, ok)
	}
	if h := r.MultiPath[1]; h.LinkIndex != 7 || h.Hops != 4 || h.Gw.String() != router.String() {
		t.Errorf("next hop %+v", h)
	}
	for cut := range message {
		if r, ok := of.read(message[:cut]); ok != (cut >= unix.SizeofRtMsg) || len(r.MultiPath) > 0 {
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
