package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/v6net/v6net/internal/kernel/nlattr"
)

// Lists is a socket on which the kernel heeds what a listing is to be of
// (NETLINK_GET_STRICT_CHK, Linux 4.20; one that is older lists all, and who asks leaves out the rest).
// What it says is read where it lies: the libraries make a copy of it all, and garbage of as
// much again, and it may be of thousands of routes. Its methods may be called from any goroutine.
type Lists struct {
	mu     sync.Mutex // held over a whole listing
	socket int
	asked  uint32 // the number of the listing
	buffer []byte
}

// listBytes is more than the kernel says at once of a listing (netlink_dump in net/netlink/af_netlink.c).
const listBytes = 64 << 10

// OpenLists opens the socket in the network namespace of the calling thread.
func OpenLists() (*Lists, error) {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	timeout := unix.NsecToTimeval(ReplyTimeout.Nanoseconds())
	if err := errors.Join(
		unix.Bind(socket, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout),
	); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare rtnetlink socket: %w", err), unix.Close(socket))
	}
	_ = unix.SetsockoptInt(socket, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return &Lists{socket: socket, buffer: make([]byte, listBytes)}, nil
}

// Close closes the socket, after the last call.
func (l *Lists) Close() { _ = unix.Close(l.socket) }

// Each asks for one listing and calls take with each message of it, which is gone after the
// call; there are none of a link or of a table that is not there. The error is
// [netlink.ErrDumpInterrupted] where that changed meanwhile.
func (l *Lists) Each(ask int, answer uint16, take func(message []byte), of ...nl.NetlinkRequestData) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	request := nl.NewNetlinkRequest(ask, unix.NLM_F_DUMP)
	request.Seq = l.asked
	for _, what := range of {
		request.AddData(what)
	}
	if err := unix.Sendto(l.socket, request.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	interrupted := false
	for {
		messages, err := l.receive()
		if err != nil {
			return err
		}
		for header, message := range split(messages) {
			if header.Seq != l.asked {
				continue // of a listing that was given up
			}
			interrupted = interrupted || header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch header.Type {
			case answer:
				take(message)
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if len(message) < 4 {
					message = make([]byte, 4)
				}
				err := unix.Errno(-int32(binary.NativeEndian.Uint32(message)))
				switch {
				case err != 0 && err != unix.ENODEV && err != unix.ENOENT:
					return err
				case interrupted:
					return netlink.ErrDumpInterrupted
				}
				return nil
			}
		}
	}
}

// receive waits for what the kernel says next.
func (l *Lists) receive() ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(l.socket, l.buffer, unix.MSG_TRUNC)
		sender, _ := from.(*unix.SockaddrNetlink)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, fmt.Errorf("wait for the answer: %w", err)
		case sender == nil || sender.Pid != 0: // another program's
		case n > len(l.buffer):
			return nil, fmt.Errorf("an answer of %d bytes is too large", n)
		default:
			return l.buffer[:n], nil
		}
	}
}

// split are several messages, each after its struct nlmsghdr (netlink(7)).
func split(b []byte) iter.Seq2[unix.NlMsghdr, []byte] {
	return func(yield func(unix.NlMsghdr, []byte) bool) {
		for len(b) >= unix.SizeofNlMsghdr {
			h := unix.NlMsghdr{
				Len: binary.NativeEndian.Uint32(b), Type: binary.NativeEndian.Uint16(b[4:]), Flags: binary.NativeEndian.Uint16(b[6:]),
				Seq: binary.NativeEndian.Uint32(b[8:]), Pid: binary.NativeEndian.Uint32(b[12:]),
			}
			if h.Len < unix.SizeofNlMsghdr || int(h.Len) > len(b) || !yield(h, b[unix.SizeofNlMsghdr:h.Len]) {
				return
			}
			b = b[min((int(h.Len)+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
		}
	}
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
	for kind, value := range nlattr.All(b[unix.SizeofIfAddrmsg:]) {
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
			a.Flags = nlattr.Number(value)
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
