package watch

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// decode reads one rtnetlink notification. It is not ok for those that are none
// of ours to report.
func decode(m netlink.Message) (e Event, ok bool, err error) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		e, ok, err = decodeLink(m.Data)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		e, ok, err = decodeAddress(m.Data)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		e, ok, err = decodeRoute(m.Data)
	case unix.RTM_DELNSID: // its ID here (net/core/net_namespace.c, rtnl_net_notifyid)
		e, ok = Event{Kind: Namespace}, true
	}
	switch m.Header.Type {
	case unix.RTM_DELLINK, unix.RTM_DELADDR, unix.RTM_DELROUTE, unix.RTM_DELNSID:
		e.Deleted = true
	}
	return e, ok, err
}

// decodeLink reads struct ifinfomsg and its attributes (rtnetlink(7)).
func decodeLink(b []byte) (Event, bool, error) {
	if len(b) < unix.SizeofIfInfomsg {
		return Event{}, false, errShort("ifinfomsg", b)
	}
	if b[0] != unix.AF_UNSPEC {
		// A bridge tells of its ports in the same messages: RTM_DELLINK of
		// AF_BRIDGE says that one has left it, not that it is deleted.
		return Event{}, false, nil
	}
	const usable = unix.IFF_UP | unix.IFF_LOWER_UP
	e := Event{
		Kind:  Link,
		Index: int(int32(binary.NativeEndian.Uint32(b[4:]))),
		Up:    binary.NativeEndian.Uint32(b[8:])&usable == usable,
	}
	err := eachAttribute(b[unix.SizeofIfInfomsg:], func(a *netlink.AttributeDecoder) {
		if a.Type() == unix.IFLA_IFNAME {
			e.Link = a.String()
		}
	})
	return e, true, err
}

// decodeAddress reads struct ifaddrmsg and its attributes.
func decodeAddress(b []byte) (Event, bool, error) {
	if len(b) < unix.SizeofIfAddrmsg {
		return Event{}, false, errShort("ifaddrmsg", b)
	}
	e := Event{Kind: Address, Index: int(binary.NativeEndian.Uint32(b[4:]))}
	var local, address netip.Addr
	err := eachAttribute(b[unix.SizeofIfAddrmsg:], func(a *netlink.AttributeDecoder) {
		switch a.Type() {
		case unix.IFA_LOCAL: // where both are there, IFA_ADDRESS is the peer's
			local, _ = netip.AddrFromSlice(a.Bytes())
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(a.Bytes())
		}
	})
	if !local.IsValid() {
		local = address
	}
	e.Prefix = netip.PrefixFrom(local, int(b[1]))
	return e, e.Prefix.IsValid(), err
}

// decodeRoute reads struct rtmsg and its attributes.
func decodeRoute(b []byte) (Event, bool, error) {
	if len(b) < unix.SizeofRtMsg {
		return Event{}, false, errShort("rtmsg", b)
	}
	var destination netip.Addr
	switch b[0] {
	case unix.AF_INET:
		destination = netip.IPv4Unspecified() // a default route comes without RTA_DST
	case unix.AF_INET6:
		destination = netip.IPv6Unspecified()
	default: // multicast routing and MPLS
		return Event{}, false, nil
	}
	if b[4] == unix.RT_TABLE_LOCAL || binary.NativeEndian.Uint32(b[8:])&unix.RTM_F_CLONED != 0 {
		return Event{}, false, nil // the shadow of an address, and of a path MTU
	}
	e := Event{Kind: Route, Protocol: b[5]}
	err := eachAttribute(b[unix.SizeofRtMsg:], func(a *netlink.AttributeDecoder) {
		switch a.Type() {
		case unix.RTA_DST:
			destination, _ = netip.AddrFromSlice(a.Bytes())
		case unix.RTA_OIF:
			e.Index = int(a.Uint32())
		}
	})
	e.Prefix = netip.PrefixFrom(destination, int(b[1]))
	return e, e.Prefix.IsValid(), err
}

func eachAttribute(b []byte, f func(*netlink.AttributeDecoder)) error {
	a, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	for a.Next() {
		f(a)
	}
	return a.Err()
}

func errShort(what string, b []byte) error {
	return fmt.Errorf("%s of %d bytes", what, len(b))
}
