package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/dump"
)

// Lists is a socket on which the kernel heeds what a listing is to be of
// (NETLINK_GET_STRICT_CHK, Linux 4.20; one that is older lists all, and who asks leaves out the rest).
type Lists struct{ socket *nl.SocketHandle }

// OpenLists opens the socket in the network namespace of the calling thread.
func OpenLists() (*Lists, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	timeout := unix.NsecToTimeval(ReplyTimeout.Nanoseconds())
	if err := errors.Join(s.SetReceiveTimeout(&timeout), s.SetSendTimeout(&timeout)); err != nil {
		s.Close()
		return nil, fmt.Errorf("set timeout of rtnetlink socket: %w", err)
	}
	_ = unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return &Lists{&nl.SocketHandle{Socket: s}}, nil
}

// Close closes the socket, after the last call.
func (l *Lists) Close() { l.socket.Close() }

// Each asks for one listing and calls take with each message of it; there are none of a link
// or of a table that is not there. The error is [netlink.ErrDumpInterrupted] where that
// changed meanwhile.
func (l *Lists) Each(ask int, answer uint16, take func(message []byte), of ...nl.NetlinkRequestData) error {
	request := nl.NewNetlinkRequest(ask, unix.NLM_F_DUMP)
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: l.socket}
	for _, what := range of {
		request.AddData(what)
	}
	err := request.ExecuteIter(unix.NETLINK_ROUTE, answer, func(message []byte) bool {
		take(message)
		return true
	})
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Addresses lists those of a link, by its index, and of a family; zero is any.
func (l *Lists) Addresses(ctx context.Context, link, family int) ([]netlink.Addr, error) {
	return dump.Retry(ctx, func() ([]netlink.Addr, error) {
		var addrs []netlink.Addr
		header := nl.NewIfAddrmsg(family)
		header.Index = uint32(link)
		err := l.Each(unix.RTM_GETADDR, unix.RTM_NEWADDR, func(message []byte) {
			if a, of, ok := readAddress(message); ok && (link == 0 || a.LinkIndex == link) && (family == netlink.FAMILY_ALL || of == family) {
				addrs = append(addrs, a)
			}
		}, header)
		return addrs, err
	})
}

// readAddress reads struct ifaddrmsg and its attributes (rtnetlink(7)). It is not ok for what
// is no address.
func readAddress(b []byte) (a netlink.Addr, family int, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return a, 0, false
	}
	bits := int(b[1])
	a.Flags, a.Scope = int(b[2]), int(b[3])
	a.LinkIndex = int(binary.NativeEndian.Uint32(b[4:]))
	var local, address net.IP // of IPv4 the second is the peer's, or the same; of IPv6 the first is there with a peer alone
	for kind, value := range Attributes(b[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_LOCAL:
			local = slices.Clone(value)
		case unix.IFA_ADDRESS:
			address = slices.Clone(value)
		case unix.IFA_BROADCAST:
			a.Broadcast = slices.Clone(value)
		case unix.IFA_LABEL:
			a.Label = string(value[:max(len(value)-1, 0)])
		case unix.IFA_FLAGS:
			a.Flags = Number(value)
		case unix.IFA_CACHEINFO:
			if len(value) >= 8 { // struct ifa_cacheinfo
				a.PreferedLft, a.ValidLft = int(binary.NativeEndian.Uint32(value)), int(binary.NativeEndian.Uint32(value[4:]))
			}
		}
	}
	prefix := &net.IPNet{IP: address, Mask: net.CIDRMask(bits, 8*len(address))}
	switch {
	case local == nil || local.Equal(address):
		a.IPNet = prefix
	case address == nil:
		a.IPNet = netlink.NewIPNet(local)
	default: // the prefix is the peer's
		a.IPNet, a.Peer = netlink.NewIPNet(local), prefix
	}
	return a, int(b[0]), len(a.IP) > 0
}
