package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
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
		return nil, nil, unavailable(fmt.Errorf("open netfilter netlink socket: %w", err))
	}
	return conn, socket, nil
}

// ErrUnavailable says that the kernel has no nftables, nor modules for it. Whatever else
// goes wrong does not match it.
var ErrUnavailable = errors.New("not in this kernel, nor as a module")

// unavailable has an error match [ErrUnavailable] where it says that something is missing.
func unavailable(err error) error {
	if isMissing(err) && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// exists finds out whether there is nftables, before any change is sent: such a kernel
// answers a change once, as a whole (nfnetlink_rcv_batch in net/netfilter/nfnetlink.c), and
// the library waits for an answer to each of its messages, for ever.
func exists(conn *nftables.Conn) error {
	_, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if errors.Is(err, unix.EINVAL) { // nfnetlink_rcv_msg
		err = ErrUnavailable
	}
	if err != nil {
		return fmt.Errorf("list the tables of nftables: %w", err)
	}
	return nil
}

// dialEvents opens the socket for the events of nftables, which it hears from then on:
// whatever is done to our tables between the first Apply and Watch is among them. Events of changes made through own are not queued: they would drown the
// others' when a batch is large.
func dialEvents(own *netlink.Conn) (*netlink.Conn, error) {
	id, err := portID(own)
	if err != nil {
		return nil, err
	}
	filter, err := bpf.Assemble(notFrom(id))
	if err != nil {
		return nil, fmt.Errorf("assemble filter for nftables events: %w", err)
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netfilter netlink socket for events: %w", err)
	}
	if err := errors.Join(c.SetBPF(filter), c.SetReadBuffer(replyBytes), c.JoinGroup(unix.NFNLGRP_NFTABLES)); err != nil {
		return nil, errors.Join(fmt.Errorf("set up the socket for nftables events: %w", err), c.Close())
	}
	return c, nil
}

// notFrom passes events of changes made by others than the socket with the
// port ID. All messages of one datagram come from one change.
func notFrom(id uint32) []bpf.Instruction {
	const offset = 12 // of nlmsg_pid in struct nlmsghdr
	// BPF loads in network byte order what is in the host's.
	id = binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, id))
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: offset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: id, SkipTrue: 1},
		bpf.RetConstant{Val: math.MaxUint32},
		bpf.RetConstant{Val: 0},
	}
}

// portID is the address of a netlink socket, which the events of changes made through it carry.
func portID(socket *netlink.Conn) (uint32, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("read netlink port ID: %w", err)
	}
	var id uint32
	var nameErr error
	err = raw.Control(func(fd uintptr) {
		var addr unix.Sockaddr
		if addr, nameErr = unix.Getsockname(int(fd)); nameErr == nil {
			id = addr.(*unix.SockaddrNetlink).Pid
		}
	})
	if err := errors.Join(err, nameErr); err != nil {
		return 0, fmt.Errorf("read netlink port ID: %w", err)
	}
	return id, nil
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
