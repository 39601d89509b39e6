// Package capture takes copies of the frames of a link, wherever it is.
package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/afpacket"
	"github.com/v6net/v6net/internal/kernel/netns"
)

// bufferSize is how much may wait for the reader.
const bufferSize = 16 << 20

// A Source is what is captured.
type Source struct {
	Sandbox string // the file of the network namespace that the link is in; empty: this one
	Link    string // its name, or
	Alias   string // what it has as an alias, by which it is found whatever its name
	// Promiscuous has a bridge's frames come that are not for the host.
	Promiscuous bool
	// Filter is the program that chooses frames and how much of each; header is how long
	// the link's own header is.
	Filter func(header int) ([]bpf.Instruction, error)
}

// A Frame is one that was captured. Its Data is valid until the next.
type Frame struct {
	Time     time.Time
	Data     []byte
	Length   int // of all of it
	Outgoing bool
}

// Socket captures. Close ends a Next that waits.
type Socket struct {
	Link     string // its name now, in its namespace
	Header   int    // length of the link's own header: 14 of Ethernet, or 0
	file     *os.File
	buffer   []byte
	control  []byte
	received uint64
	dropped  uint64
}

// Open begins to capture. A namespace or link that is not there matches fs.ErrNotExist.
func Open(ctx context.Context, s Source) (*Socket, error) {
	var opened *Socket
	do := func() (err error) { opened, err = s.open(ctx); return err }
	if s.Sandbox == "" {
		err := do()
		return opened, err
	}
	if err := netns.Do(s.Sandbox, do); err != nil {
		return nil, err
	}
	return opened, nil
}

// open runs in the link's namespace.
func (s Source) open(ctx context.Context) (*Socket, error) {
	link, err := s.find(ctx)
	if err != nil {
		return nil, err
	}
	c := &Socket{Link: link.Name, buffer: make([]byte, 1<<18), control: make([]byte, 512)}
	kind, err := hardwareKind(link.Index)
	if err != nil {
		return nil, fmt.Errorf("capture on %s: %w", link.Name, err)
	}
	if kind == unix.ARPHRD_ETHER || kind == unix.ARPHRD_LOOPBACK {
		c.Header = 14
	}
	filter, err := s.Filter(c.Header)
	if err != nil {
		return nil, err
	}
	if c.file, err = afpacket.Open(afpacket.Socket{
		Name: "capture on " + link.Name, Type: unix.SOCK_RAW, Ifindex: link.Index, Protocol: unix.ETH_P_ALL, Filter: filter,
		Prepare: func(fd int) error { return s.prepare(fd, link.Index) },
	}); err != nil {
		return nil, err
	}
	return c, nil
}

// find is the link by its name or alias.
func (s Source) find(ctx context.Context) (*net.Interface, error) {
	if s.Alias != "" {
		return byAlias(ctx, s.Alias)
	}
	link, err := net.InterfaceByName(s.Link)
	if err != nil {
		return nil, fmt.Errorf("link %s: %w: %w", s.Link, err, os.ErrNotExist)
	}
	return link, nil
}

// hardwareKind is an ARPHRD_ of the kernel, as a packet socket is told that is bound to
// a link; this one receives nothing.
func hardwareKind(index int) (uint16, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open packet socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
		return 0, fmt.Errorf("bind: %w", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("getsockname: %w", err)
	}
	ll, ok := name.(*unix.SockaddrLinklayer)
	if !ok {
		return 0, fmt.Errorf("getsockname: a %T", name)
	}
	return ll.Hatype, nil
}

func (s Source) prepare(fd, index int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize); err != nil {
		return fmt.Errorf("set size of buffer: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("ask for timestamps: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return fmt.Errorf("ask for lengths: %w", err)
	}
	if s.Promiscuous { // it ends with the socket
		mreq := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
			return fmt.Errorf("ask for all frames of the link: %w", err)
		}
	}
	return nil
}

// Next waits for a frame. The error matches os.ErrClosed after Close.
func (c *Socket) Next() (Frame, error) {
	conn, err := c.file.SyscallConn()
	if err != nil {
		return Frame{}, err
	}
	var n, control int
	var from unix.Sockaddr
	var failed error
	for {
		if err := conn.Read(func(fd uintptr) bool {
			n, control, _, from, failed = unix.Recvmsg(int(fd), c.buffer, c.control, 0)
			return !errors.Is(failed, unix.EAGAIN)
		}); err != nil {
			return Frame{}, err
		}
		if !errors.Is(failed, unix.EINTR) {
			break
		}
	}
	if failed != nil {
		return Frame{}, fmt.Errorf("capture on %s: %w", c.Link, failed)
	}
	f := Frame{Time: time.Now(), Data: c.buffer[:n], Length: n}
	if ll, ok := from.(*unix.SockaddrLinklayer); ok {
		f.Outgoing = ll.Pkttype == unix.PACKET_OUTGOING
	}
	messages, err := unix.ParseSocketControlMessage(c.control[:control])
	if err != nil {
		return f, nil // it is of the frame that people want to know
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})):
			ts := *(*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
			f.Time = time.Unix(ts.Unix())
		case m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= int(unsafe.Sizeof(unix.TpacketAuxdata{})):
			aux := *(*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0]))
			f.Length = int(aux.Len)
			if aux.Status&unix.TP_STATUS_VLAN_VALID != 0 && c.Header == 14 {
				f = c.retag(f, aux)
			}
		}
	}
	return f, nil
}

// retag puts the VLAN tag back that the kernel has taken out of the frame.
func (c *Socket) retag(f Frame, aux unix.TpacketAuxdata) Frame {
	const macs, tag = 12, 4
	if len(f.Data) < macs {
		return f
	}
	proto := uint16(unix.ETH_P_8021Q)
	if aux.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		proto = aux.Vlan_tpid
	}
	tagged := make([]byte, 0, len(f.Data)+tag)
	tagged = append(tagged, f.Data[:macs]...)
	tagged = binary.BigEndian.AppendUint16(tagged, proto)
	tagged = binary.BigEndian.AppendUint16(tagged, aux.Vlan_tci)
	f.Data = append(tagged, f.Data[macs:]...)
	f.Length += tag
	return f
}

// Count is how many frames were chosen so far, and how many of them there was no room for.
func (c *Socket) Count() (received, dropped uint64, err error) {
	conn, err := c.file.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var stats *unix.TpacketStats
	var failed error
	if err := conn.Control(func(fd uintptr) {
		stats, failed = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	}); err != nil {
		return 0, 0, err
	}
	if failed != nil {
		return 0, 0, fmt.Errorf("count what was captured on %s: %w", c.Link, failed)
	}
	c.received += uint64(stats.Packets) // since it was last asked, those dropped among them
	c.dropped += uint64(stats.Drops)
	return c.received, c.dropped, nil
}

// Close ends the capture.
func (c *Socket) Close() error { return c.file.Close() }

// Interrupt ends a Next that waits, and every later one; what was counted stays to be asked.
func (c *Socket) Interrupt() { _ = c.file.SetReadDeadline(time.Unix(1, 0)) }
