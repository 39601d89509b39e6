package icmp6

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/ra"
)

const typeRouterAdvertisement = 134 // RFC 4861 §4.2

// WatchAdvertisements calls f with every router advertisement that a link
// receives or sends, valid or not but for the checksum, until ctx ends or the
// link goes. It is for people who look: it changes nothing.
func WatchAdvertisements(ctx context.Context, link string, f func(from ra.Received, message []byte)) error {
	found, err := findLink(ctx, link)
	if err != nil {
		return err
	}
	socket, err := listenFor(found, unix.ETH_P_ALL, advertisementFilter(found))
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	frame := make([]byte, 1<<16)
	for {
		n, err := socket.Read(frame)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch link %s: %w", link, err)
		}
		if from, message, ok := parseICMPv6(frame[:n]); ok {
			f(from, message)
		}
	}
}

// advertisementFilter passes untagged router advertisements, in both directions.
func advertisementFilter(link ethernetLink) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(link.index), SkipTrue: 7},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IPV6, SkipTrue: 5},
		bpf.LoadAbsolute{Off: nextHeaderOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: icmpOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: typeRouterAdvertisement, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 18}, // whole frames
		bpf.RetConstant{Val: 0},
	}
}

// parseICMPv6 takes an ICMPv6 message out of a frame. One that is cut off, or
// whose checksum is wrong, is not ok.
func parseICMPv6(frame []byte) (from ra.Received, message []byte, ok bool) {
	if len(frame) < ethernetLen+ipv6Len {
		return from, nil, false
	}
	ip := frame[ethernetLen:]
	length := int(binary.BigEndian.Uint16(ip[4:]))
	if ip[6] != unix.IPPROTO_ICMPV6 || length < 4 || length > len(ip)-ipv6Len {
		return from, nil, false
	}
	message = ip[ipv6Len:][:length]
	if checksum(ip[8:ipv6Len], message) != 0 {
		return from, nil, false
	}
	return ra.Received{Len: length, Source: netip.AddrFrom16([16]byte(ip[8:])), HopLimit: int(ip[7])}, message, true
}
