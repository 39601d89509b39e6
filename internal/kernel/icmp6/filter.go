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

// proxyFilter passes what the proxy has to judge or count: solicitations and
// advertisements that the link itself received for this host, and solicitations
// behind a fragment header (RFC 6980) or options.
func proxyFilter(link ethernetLink) []bpf.Instruction {
	const reject, check = 27, 26 // where they are behind the first four, as are the numbers below
	return append([]bpf.Instruction{
		// A socket for all protocols hears other ones, and a VLAN's frames without
		// their tag.
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IPV6, SkipTrue: reject + 4 - 2},
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: reject},
	}, []bpf.Instruction{
		// As neighborFilter does.
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(link.index), SkipTrue: reject - 2},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: unix.PACKET_MULTICAST, SkipTrue: reject - 4},
		bpf.LoadAbsolute{Off: nextHeaderOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 10 - 6},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_FRAGMENT, SkipTrue: 13 - 7},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_HOPOPTS, SkipTrue: 19 - 8},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_DSTOPTS, SkipTrue: 19 - 9},
		bpf.RetConstant{Val: 0},
		// 10: the message itself.
		bpf.LoadAbsolute{Off: icmpOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeAdvertisement, SkipTrue: reject + 1 - 12},
		bpf.Jump{Skip: check - 13},
		// 13: a first fragment (RFC 8200 §4.5).
		bpf.LoadAbsolute{Off: icmpOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: reject - 15},
		bpf.LoadAbsolute{Off: icmpOffset + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0xfff8, SkipTrue: reject - 17},
		bpf.LoadAbsolute{Off: icmpOffset + 8, Size: 1},
		bpf.Jump{Skip: check - 19},
		// 19: options, with their length in units of 8 bytes (RFC 8200 §4.2).
		bpf.LoadAbsolute{Off: icmpOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: reject - 21},
		bpf.LoadAbsolute{Off: icmpOffset + 1, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: 8},
		bpf.TAX{},
		bpf.LoadIndirect{Off: icmpOffset, Size: 1},
		// 26
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeSolicitation, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 18}, // whole frames
	}...)
}

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
