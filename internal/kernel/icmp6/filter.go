package icmp6

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in an Ethernet frame that carries IPv6.
const (
	nextHeaderOffset = 14 + 6
	icmpOffset       = 14 + 40
)

// neighborFilter passes the ICMPv6 messages of the given types that the link
// itself received for this host. Hop limit, checksum and the rest are left to
// the reader, who counts them; behind an extension header no message passes.
func neighborFilter(link ethernetLink, types ...uint32) []bpf.Instruction {
	// A frame for a VLAN above the link comes to the link's sockets too, then
	// with the VLAN's index (net/core/dev.c __netif_receive_skb_core: orig_dev)
	// or still with its tag. Frames for other hosts come while something holds
	// the link promiscuous.
	f := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(link.index), SkipTrue: uint8(8 + len(types))},
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: uint8(6 + len(types))},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: unix.PACKET_MULTICAST, SkipTrue: uint8(4 + len(types))},
		bpf.LoadAbsolute{Off: nextHeaderOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: uint8(2 + len(types))},
		bpf.LoadAbsolute{Off: icmpOffset, Size: 1},
	}
	for i, t := range types {
		f = append(f, bpf.JumpIf{Cond: bpf.JumpEqual, Val: t, SkipTrue: uint8(len(types) - i)})
	}
	return append(f,
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 18}, // whole frames
	)
}
