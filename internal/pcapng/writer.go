// Package pcapng writes captured packets to a file (draft-ietf-opsawg-pcapng).
//
// It is our own for the daemon's sake, which is the same program as the command that
// captures: the usual library comes with tables of all the world's protocols, which the
// garbage collector reads, so that a daemon that captures nothing had ten megabytes more.
package pcapng

import (
	"encoding/binary"
	"io"
	"net/netip"
	"time"
)

// Types of blocks (§11.1 of the draft).
const (
	sectionHeader  = 0x0a0d0d0a
	interfaceBlock = 1
	nameResolution = 4
	statistics     = 5
	enhancedPacket = 6
)

// Kinds of links (draft-ietf-opsawg-pcaplinktype).
const (
	Ethernet = 1
	RawIP    = 101
)

// Writer writes one section. Each block is one Write, so that who reads a pipe sees it at once.
type Writer struct{ w io.Writer }

// Section is what the file as a whole is.
type Section struct{ Comment, Hardware, OS, Application string }

// Interface is a link that packets are captured on.
type Interface struct {
	Name, Description, Comment, Filter, OS string
	LinkType                               uint16
	SnapLength                             uint32
}

// Packet is one that was captured. Its Data may be less than Length.
type Packet struct {
	Interface int // in the order in which they were added
	Time      time.Time
	Data      []byte
	Length    int
	Outgoing  bool
	Comment   string
}

// Statistics are those of an interface in the end.
type Statistics struct {
	Began, Ended      time.Time
	Received, Dropped uint64
}

// NewWriter begins a section.
func NewWriter(w io.Writer, s Section) (*Writer, error) {
	b := newBlock(sectionHeader)
	b.uint32(0x1a2b3c4d) // by which the byte order is told
	b.uint16(1)          // version 1.0
	b.uint16(0)
	b.uint64(1<<64 - 1) // its length: not known
	b.text(1, s.Comment)
	b.text(2, s.Hardware)
	b.text(3, s.OS)
	b.text(4, s.Application)
	out := &Writer{w}
	return out, out.write(b)
}

// AddInterface describes the next interface.
func (w *Writer) AddInterface(i Interface) error {
	b := newBlock(interfaceBlock)
	b.uint16(i.LinkType)
	b.uint16(0)
	b.uint32(i.SnapLength)
	b.text(1, i.Comment)
	b.text(2, i.Name)
	b.text(3, i.Description)
	b.option(9, []byte{9}) // times are in units of 10^-9 seconds
	if i.Filter != "" {
		b.option(11, append([]byte{0}, i.Filter...)) // 0: as text
	}
	b.text(12, i.OS)
	return w.write(b)
}

// AddNames says what addresses are called.
func (w *Writer) AddNames(order []netip.Addr, name func(netip.Addr) string) error {
	const ipv4, ipv6 = 1, 2
	b := newBlock(nameResolution)
	for _, a := range order {
		kind := uint16(ipv6)
		if a.Is4() {
			kind = ipv4
		}
		b.option(kind, append(append(a.AsSlice(), name(a)...), 0))
	}
	b.end()
	return w.write(b)
}

// WritePacket writes a packet.
func (w *Writer) WritePacket(p Packet) error {
	const inbound, outbound = 1, 2
	direction := uint32(inbound)
	if p.Outgoing {
		direction = outbound
	}
	b := newBlock(enhancedPacket)
	b.uint32(uint32(p.Interface))
	b.time(p.Time)
	b.uint32(uint32(len(p.Data)))
	b.uint32(uint32(max(p.Length, len(p.Data))))
	b.bytes(p.Data)
	b.text(1, p.Comment)
	b.option(2, binary.LittleEndian.AppendUint32(nil, direction))
	return w.write(b)
}

// WriteStatistics says how much an interface has had.
func (w *Writer) WriteStatistics(at int, s Statistics) error {
	b := newBlock(statistics)
	b.uint32(uint32(at))
	b.time(s.Ended)
	b.timeOption(2, s.Began)
	b.timeOption(3, s.Ended)
	b.option(4, binary.LittleEndian.AppendUint64(nil, s.Received))
	b.option(5, binary.LittleEndian.AppendUint64(nil, s.Dropped))
	return w.write(b)
}

func (w *Writer) write(b *block) error {
	_, err := w.w.Write(b.whole())
	return err
}
