package icmp6

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/afpacket"
)

// A Traffic hears what a link receives for the addresses of some prefixes, before anybody
// answers or takes it. It implements cloud.Traffic.
type Traffic struct {
	file     *os.File
	link     ethernetLink
	prefixes []netip.Prefix
	packets  bool // as Next was asked for last
}

// ListenFor opens a Traffic. The link must be up and of the Ethernet kind.
func ListenFor(ctx context.Context, link string, prefixes []netip.Prefix) (*Traffic, error) {
	found, err := findLink(ctx, link)
	if err != nil {
		return nil, err
	}
	// For all protocols: an eBPF program that answers comes before sockets of one.
	file, err := listenFor(found, unix.ETH_P_ALL, trafficFilter(found, nil))
	if err != nil {
		return nil, err
	}
	if err := ignoreOutgoing(file); err != nil {
		return nil, errors.Join(fmt.Errorf("packet socket on %s: %w", found.name, err), file.Close())
	}
	return &Traffic{file: file, link: found, prefixes: prefixes}, nil
}

// Close ends a Next that is waiting.
func (t *Traffic) Close() error { return t.file.Close() }

// Next waits for a solicitation for an address of the prefixes, or, where packets is set,
// for any packet to one as well.
func (t *Traffic) Next(ctx context.Context, packets bool) (to netip.Addr, solicited bool, err error) {
	if t.packets != packets {
		filter := trafficFilter(t.link, nil)
		if packets {
			filter = trafficFilter(t.link, t.prefixes)
		}
		if err := onDescriptor(t.file, func(fd int) error { return afpacket.Filter(fd, filter) }); err != nil {
			return netip.Addr{}, false, fmt.Errorf("packet socket on %s: %w", t.link.name, err)
		}
		t.packets = packets
	}
	if err := t.file.SetReadDeadline(time.Time{}); err != nil {
		return netip.Addr{}, false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = t.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var frame [trafficBytes]byte
	for {
		n, err := t.file.Read(frame[:])
		if ctx.Err() != nil {
			return netip.Addr{}, false, ctx.Err()
		}
		if err != nil {
			return netip.Addr{}, false, fmt.Errorf("receive on %s: %w", t.link.name, err)
		}
		to, solicited, ok := arrived(frame[:n])
		if ok && (solicited || packets) && slices.ContainsFunc(t.prefixes, func(p netip.Prefix) bool { return p.Contains(to) }) {
			return to, solicited, nil
		}
	}
}

const (
	destinationOffset = 14 + 24
	// trafficBytes are the headers, and a solicitation up to its target.
	trafficBytes = icmpOffset + 8 + 16
)

// arrived says of a frame to which address it is, or for which it asks. What is no valid
// solicitation is a packet like any other (RFC 4861 §7.1.1; its checksum is not looked at:
// whoever can send a false one can send a right one).
func arrived(frame []byte) (to netip.Addr, solicited, ok bool) {
	if len(frame) < icmpOffset {
		return netip.Addr{}, false, false
	}
	if len(frame) >= trafficBytes && frame[nextHeaderOffset] == unix.IPPROTO_ICMPV6 && frame[nextHeaderOffset+1] == hopLimit && frame[icmpOffset] == typeSolicitation {
		return netip.AddrFrom16([16]byte(frame[icmpOffset+8:])), true, true
	}
	return netip.AddrFrom16([16]byte(frame[destinationOffset:])), false, true
}

// trafficFilter passes the beginnings of solicitations, and of packets to prefixes, that
// the link itself received for this host.
func trafficFilter(link ethernetLink, prefixes []netip.Prefix) []bpf.Instruction {
	pass, reject := bpf.RetConstant{Val: trafficBytes}, bpf.RetConstant{Val: 0}
	f := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: 1},
		reject,
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		reject,
		// As neighborFilter does.
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(link.index), SkipTrue: 1},
		reject,
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: unix.PACKET_MULTICAST, SkipTrue: 1},
		reject,
		bpf.LoadAbsolute{Off: nextHeaderOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: icmpOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: typeSolicitation, SkipTrue: 1},
		pass,
	}
	for _, p := range prefixes {
		addr, mask := p.Masked().Addr().As16(), netip.PrefixFrom(allOnes, p.Bits()).Masked().Addr().As16()
		words := (p.Bits() + 31) / 32
		for i := range words {
			// Past the words that are left, each of three instructions, and the verdict.
			next := uint8(3*(words-1-i) + 1)
			f = append(f,
				bpf.LoadAbsolute{Off: uint32(destinationOffset + 4*i), Size: 4},
				bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: binary.BigEndian.Uint32(mask[4*i:])},
				bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(addr[4*i:]), SkipTrue: next},
			)
		}
		f = append(f, pass)
	}
	return append(f, reject)
}

var allOnes = netip.AddrFrom16([16]byte(slices.Repeat([]byte{0xff}, 16)))
