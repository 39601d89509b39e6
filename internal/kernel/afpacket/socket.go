// Package afpacket opens the packet sockets (packet(7)) by which other packages hear and
// say what the kernel's own protocols do not.
package afpacket

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A Socket is one to be opened.
type Socket struct {
	Name     string // of the file, for errors
	Type     int    // SOCK_RAW: with link-layer headers; SOCK_DGRAM: without
	Ifindex  int
	Protocol uint16 // an ETH_P_ of the kernel, in the machine's byte order
	Filter   []bpf.Instruction
	// Prepare, if there is one, sets what has to hold from the first frame on.
	Prepare func(fd int) error
}

// Open opens a socket for the frames of one link. None comes in unfiltered. As a file
// it waits in the runtime's poller, takes deadlines and allocates nothing.
func Open(s Socket) (*os.File, error) {
	// Protocol 0 receives nothing until bind.
	fd, err := unix.Socket(unix.AF_PACKET, s.Type|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if err := s.configure(fd); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("packet socket %s: %w", s.Name, err)
	}
	return os.NewFile(uintptr(fd), s.Name), nil
}

func (s Socket) configure(fd int) error {
	if err := Filter(fd, s.Filter); err != nil {
		return err
	}
	if s.Prepare != nil {
		if err := s.Prepare(fd); err != nil {
			return err
		}
	}
	return Bind(fd, s.Ifindex, s.Protocol)
}

// Bind has a socket receive frames of another link, or protocol, than before.
func Bind(fd, ifindex int, protocol uint16) error {
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: NetworkOrder(protocol), Ifindex: ifindex}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// Filter has a socket receive what passes a filter, and not what passed another.
func Filter(fd int, filter []bpf.Instruction) error {
	program, err := bpf.Assemble(filter)
	if err != nil {
		return fmt.Errorf("assemble filter: %w", err)
	}
	sock := make([]unix.SockFilter, len(program))
	for i, in := range program {
		sock[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(sock)), Filter: &sock[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fprog); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	return nil
}

// NetworkOrder turns a protocol into what struct sockaddr_ll wants.
func NetworkOrder(protocol uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
}
