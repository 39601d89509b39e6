package nft

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// batchBytes bounds a batch: the kernel takes it as one datagram. It holds
// some 200,000 elements; only what is in use is allocated.
const batchBytes = 32 << 20

// replyBytes is room for the answers to a batch and for the events of others'.
const replyBytes = 4 << 20

// dial opens a connection for requests. The library's own socket comes along,
// since the library leaves unread answers in it after an error.
func dial() (*nftables.Conn, *netlink.Conn, error) {
	var socket *netlink.Conn
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		socket = c
		if err := c.SetWriteBuffer(batchBytes); err != nil {
			return fmt.Errorf("set the size of a batch: %w", err)
		}
		if err := c.SetReadBuffer(replyBytes); err != nil {
			return fmt.Errorf("set the size of the answers: %w", err)
		}
		// An error need not carry the whole message that it is about.
		return c.SetOption(netlink.CapAcknowledge, true)
	}))
	if err != nil {
		return nil, nil, fmt.Errorf("open netfilter netlink socket: %w", err)
	}
	return conn, socket, nil
}

// dialEvents opens the socket for the events of nftables; it is in no group yet.
func dialEvents() (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netfilter netlink socket for events: %w", err)
	}
	if err := c.SetReadBuffer(replyBytes); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("set the size of the event queue: %w", err)
	}
	return c, nil
}

// drain discards what an earlier, failed request has left unread, so that the
// next request is not answered with it. The kernel answers within the send, so
// nothing more comes later.
func drain(socket *netlink.Conn) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("drain netlink socket: %w", err)
	}
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		for {
			_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
			if err != nil && err != unix.EINTR && err != unix.ENOBUFS {
				return true
			}
		}
	})
	if err != nil {
		return fmt.Errorf("drain netlink socket: %w", err)
	}
	return nil
}
