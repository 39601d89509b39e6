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
	reject := []struct {
		load bpf.Instruction
		when bpf.JumpTest
		than uint32
	}{
		// A frame for a VLAN above the link comes to the link's sockets too, then
		// with the VLAN's index (net/core/dev.c __netif_receive_skb_core: orig_dev).
		{bpf.LoadExtension{Num: bpf.ExtInterfaceIndex}, bpf.JumpNotEqual, uint32(link.index)},
		// One for a VLAN that does not exist, one's own that is looped back, and,
		// while something holds the link promiscuous, one for another host.
		{bpf.LoadExtension{Num: bpf.ExtType}, bpf.JumpGreaterThan, unix.PACKET_MULTICAST},
		{bpf.LoadAbsolute{Off: nextHeaderOffset, Size: 1}, bpf.JumpNotEqual, unix.IPPROTO_ICMPV6},
	}
	var f []bpf.Instruction
	for i, r := range reject {
		skip := 2*(len(reject)-1-i) + 1 + len(types) // up to the first return
		f = append(f, r.load, bpf.JumpIf{Cond: r.when, Val: r.than, SkipTrue: uint8(skip)})
	}
	f = append(f, bpf.LoadAbsolute{Off: icmpOffset, Size: 1})
	for i, t := range types {
		f = append(f, bpf.JumpIf{Cond: bpf.JumpEqual, Val: t, SkipTrue: uint8(len(types) - i)})
	}
	return append(f,
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 18}, // whole frames
	)
}
