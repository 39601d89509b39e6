package icmp6

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/afpacket"
)

// listen opens a packet socket for the link's incoming frames that pass filter,
// multicast ones of every group included.
func listen(link ethernetLink, filter []bpf.Instruction) (*os.File, error) {
	return listenFor(link, unix.ETH_P_IPV6, filter)
}

// listenFor is listen for another protocol; ETH_P_ALL brings what the link sends, too.
func listenFor(link ethernetLink, protocol uint16, filter []bpf.Instruction) (*os.File, error) {
	file, err := open(link, protocol, filter)
	if err != nil {
		return nil, err
	}
	if err := receiveAll(file, link); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// open is listenFor without multicast of groups that nobody has joined.
func open(link ethernetLink, protocol uint16, filter []bpf.Instruction) (*os.File, error) {
	return afpacket.Open(afpacket.Socket{
		Name: "on " + link.name, Type: unix.SOCK_RAW, Ifindex: link.index, Protocol: protocol, Filter: filter,
	})
}

// receiveAll has a link receive multicast of every group while file is open.
func receiveAll(file *os.File, link ethernetLink) error {
	// The kernel counts the memberships of a link and drops a socket's with it
	// (net/packet/af_packet.c packet_flush_mclist).
	mreq := unix.PacketMreq{Ifindex: int32(link.index), Type: unix.PACKET_MR_ALLMULTI}
	if err := onDescriptor(file, func(fd int) error {
		return unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq)
	}); err != nil {
		return fmt.Errorf("packet socket on %s: receive all multicast: %w", link.name, err)
	}
	return nil
}

// ignoreOutgoing keeps what the link sends from a socket for all protocols at less
// cost than its filter, where the kernel can (Linux 4.20).
func ignoreOutgoing(file *os.File) error {
	err := onDescriptor(file, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	})
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("ignore what the link sends: %w", err)
	}
	return nil
}

// onDescriptor calls f with the descriptor of a socket.
func onDescriptor(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
