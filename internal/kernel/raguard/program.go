package raguard

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// The addresses 01:80:c2:00:00:00 to 0f are for who is at the link's other end (IEEE 802.1Q
// §8.6.3). A bridge leaves such a frame, in which there may be ARP or IP, to the host, and
// learns its sender, which may be another (br_handle_frame in net/bridge/br_input.c).
const (
	reserved     = 0x0180c200 // the first four bytes
	maskReserved = 0xfff0     // of the last two, which are zeros
)

// Offsets in an Ethernet frame and in the packet there, and what is looked for.
const (
	offsetEtherType  = 12
	offsetNextHeader = 8 // behind the EtherType
	offsetPayload    = 42
	offsetIPv4       = 2 // the header, behind the EtherType
	offsetFragment4  = 6 // in it
	offsetProtocol   = 9
	offsetFragment6  = 2 // in the fragment header, which has 8 bytes
	offsetDstPort    = 2
	offsetSrcMAC     = 6
	offsetSource6    = 10 // behind the EtherType
	offsetTarget     = 8  // in a neighbor solicitation or advertisement (RFC 4861 §4.3, §4.4)
	offsetInterface  = 16 // the interface identifier in it
	neighborBytes    = 24
	etherTypeIPv4    = 0x0800
	etherTypeIPv6    = 0x86dd
	etherType8021Q   = 0x8100
	etherType8021AD  = 0x88a8
	maskVID          = 0x0fff // IEEE 802.1Q §9.6
	maskFragment4    = 0x1fff // RFC 791 §3.1
	maskFragment6    = 0xfff8 // RFC 8200 §4.5
	maskIHL          = 0x0f

	hopByHop    = 0
	icmp        = 1
	udp         = 17
	routing     = 43
	fragment    = 44
	icmpv6      = 58
	destination = 60
)

// Messages of routers: to a container, whose neighbours may send it redirects that its
// kernel judges, advertisements alone; from one, whatever routers send (RFC 4861, RFC
// 2894; RFC 792, RFC 1256). And the ports of DHCP clients, where nothing but a server's
// or a relay's message goes to (RFC 8415 §7.2, RFC 2131 §4.1).
const (
	advertisement  = 134
	redirect       = 137
	renumbering    = 138
	redirect4      = 5
	advertisement4 = 9
	dhcp4Client    = 68
	dhcp6Client    = 546
)

// What is dropped of neighbor discovery at a port: an advertisement, or the solicitation
// from nobody that asks whether an address is taken (RFC 4862 §5.4.2), whose target is a
// bridge's link-local address, the next hop of all its containers (spec.LinkLocalGateway),
// or is made of another MAC address than the frame's (RFC 4291 appendix A). Which other
// addresses are whose the program does not know.
const (
	solicitation          = 135
	neighborAdvertisement = 136
	linkLocal             = 0xfe80 // and 48 bits of zeros
	gateways              = 1      // the next 16 bits
	eui64                 = 0xfffe // from the fourth byte of the interface identifier on
	universal             = 0x0200 // the bit that is inverted in its first two
)

// extensions is how many extension headers are looked behind (RFC 7113 §3: a
// guard that does not look behind them is passed by whoever sends one), and tags
// is how many VLAN tags without a VLAN: to the kernel a frame with any number of
// them is one without (__netif_receive_skb_core). More of either has no use, and
// does not pass. To a container fragments are left to the kernel, which drops such
// advertisements (RFC 6980), but not DHCP's messages: so from one a first fragment
// is looked into, and does not pass if its headers go on beyond it (RFC 7112).
const (
	extensions = 4
	tags       = 4
)

// stackEtherType is where on the stack it is said where the EtherType is.
const stackEtherType = -8

// What tcx makes of a packet (include/uapi/linux/bpf.h).
const (
	tcxNext = -1 // the next program, or on to the stack
	tcxDrop = 2
)

// guard is the program: frames with what only routers send, and at a port servers, or to a
// reserved address, are dropped. A load beyond the packet's end ends the program with 0,
// TCX_PASS.
//
// R6 is the packet, R7 the kind of the header at R8, R9 the packet's length. On the stack
// is where the EtherType of an IPv6 packet is.
func guard(port bool) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),              // as LoadInd wants it
		asm.LoadMem(asm.R9, asm.R6, 0, asm.Word), // struct __sk_buff, len
	}
	if port {
		p = append(p,
			asm.LoadAbs(0, asm.Word),
			asm.JNE.Imm(asm.R0, reserved, "forwarded"),
			asm.LoadAbs(4, asm.Half),
			asm.And.Imm(asm.R0, maskReserved),
			asm.JEq.Imm(asm.R0, 0, "drop"),
		)
	}
	p = append(p,
		asm.Mov.Imm(asm.R8, offsetEtherType).WithSymbol("forwarded"), // where the EtherType is
		asm.LoadInd(asm.R0, asm.R8, 0, asm.Half),
	)
	for i := range tags {
		tag := fmt.Sprint("tag", i)
		p = append(p, families(port)...)
		p = append(p,
			asm.JEq.Imm(asm.R0, etherType8021Q, tag),
			asm.JNE.Imm(asm.R0, etherType8021AD, "pass"),
			asm.LoadInd(asm.R0, asm.R8, 2, asm.Half).WithSymbol(tag),
			asm.And.Imm(asm.R0, maskVID),
			asm.JNE.Imm(asm.R0, 0, "pass"), // another link's
			asm.Add.Imm(asm.R8, 4),
			asm.LoadInd(asm.R0, asm.R8, 0, asm.Half),
		)
	}
	p = append(p, families(port)...)
	p = append(p,
		asm.JEq.Imm(asm.R0, etherType8021Q, "drop"),
		asm.JEq.Imm(asm.R0, etherType8021AD, "drop"),
		asm.Ja.Label("pass"),
	)
	p = append(p, six(port)...)
	if port {
		p = append(p, four()...)
	}
	return append(p,
		asm.Mov.Imm(asm.R0, tcxDrop).WithSymbol("drop"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("pass"),
		asm.Return(),
	)
}

// families leads on by the EtherType in R0.
func families(port bool) asm.Instructions {
	p := asm.Instructions{asm.JEq.Imm(asm.R0, etherTypeIPv6, "ipv6")}
	if port {
		p = append(p, asm.JEq.Imm(asm.R0, etherTypeIPv4, "ipv4"))
	}
	return p
}

// six judges an IPv6 packet.
func six(port bool) asm.Instructions {
	p := asm.Instructions{
		asm.StoreMem(asm.R10, stackEtherType, asm.R8, asm.DWord).WithSymbol("ipv6"),
		asm.LoadInd(asm.R0, asm.R8, offsetNextHeader, asm.Byte),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Add.Imm(asm.R8, offsetPayload),
	}
	for i := range extensions {
		ext, frag, next := fmt.Sprint("extension", i), fmt.Sprint("fragment", i), fmt.Sprint("next", i)
		p = append(p, asm.JEq.Imm(asm.R7, icmpv6, "icmpv6"))
		if port {
			p = append(p,
				asm.JEq.Imm(asm.R7, udp, "udp6"),
				asm.JEq.Imm(asm.R7, fragment, frag),
			)
		}
		p = append(p,
			asm.JEq.Imm(asm.R7, hopByHop, ext),
			asm.JEq.Imm(asm.R7, routing, ext),
			asm.JNE.Imm(asm.R7, destination, "pass"),
		)
		p = append(p, holds(ext, port, 2)...)
		p = append(p,
			asm.LoadInd(asm.R0, asm.R8, 0, asm.Byte),
			asm.Mov.Reg(asm.R7, asm.R0),
			asm.LoadInd(asm.R0, asm.R8, 1, asm.Byte), // its length in units of 8, without the first
			asm.Add.Imm(asm.R0, 1),
			asm.LSh.Imm(asm.R0, 3),
			asm.Add.Reg(asm.R8, asm.R0),
		)
		if port {
			p = append(p,
				asm.Ja.Label(next),
			)
			p = append(p, holds(frag, port, 8)...)
			p = append(p,
				asm.LoadInd(asm.R0, asm.R8, offsetFragment6, asm.Half),
				asm.And.Imm(asm.R0, maskFragment6),
				asm.JNE.Imm(asm.R0, 0, "pass"), // its first has been judged
				asm.LoadInd(asm.R0, asm.R8, 0, asm.Byte),
				asm.Mov.Reg(asm.R7, asm.R0),
				asm.Add.Imm(asm.R8, 8),
				asm.Mov.Reg(asm.R0, asm.R7).WithSymbol(next),
			)
		}
	}
	p = append(p,
		asm.JEq.Imm(asm.R7, hopByHop, "drop"),
		asm.JEq.Imm(asm.R7, routing, "drop"),
		asm.JEq.Imm(asm.R7, destination, "drop"),
	)
	if port {
		p = append(p,
			asm.JEq.Imm(asm.R7, fragment, "drop"),
			asm.JEq.Imm(asm.R7, udp, "udp6"),
		)
	}
	p = append(p, asm.JNE.Imm(asm.R7, icmpv6, "pass"))
	p = append(p, holds("icmpv6", port, 1)...)
	p = append(p, asm.LoadInd(asm.R0, asm.R8, 0, asm.Byte))
	if !port {
		return append(p, asm.JNE.Imm(asm.R0, advertisement, "pass"), asm.Ja.Label("drop"))
	}
	p = append(p,
		asm.JEq.Imm(asm.R0, advertisement, "drop"),
		asm.JEq.Imm(asm.R0, redirect, "drop"),
		asm.JEq.Imm(asm.R0, renumbering, "drop"),
		asm.JEq.Imm(asm.R0, neighborAdvertisement, "claim"),
		asm.JNE.Imm(asm.R0, solicitation, "pass"),
		asm.LoadMem(asm.R7, asm.R10, stackEtherType, asm.DWord),
	)
	for word := range int32(4) {
		p = append(p,
			asm.LoadInd(asm.R0, asm.R7, offsetSource6+4*word, asm.Word),
			asm.JNE.Imm(asm.R0, 0, "pass"), // it asks who somebody is
		)
	}
	return append(append(p, claim()...), datagram("udp6", dhcp6Client)...)
}

// claim judges who a container says that it is, or is about to be.
func claim() asm.Instructions {
	p := append(holds("claim", true, neighborBytes),
		asm.LoadInd(asm.R0, asm.R8, offsetTarget, asm.Half),
		asm.JNE.Imm(asm.R0, linkLocal, "pass"),
		asm.LoadInd(asm.R0, asm.R8, offsetTarget+2, asm.Half),
		asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.LoadInd(asm.R0, asm.R8, offsetTarget+4, asm.Word),
		asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.LoadInd(asm.R0, asm.R8, offsetInterface, asm.Half),
		asm.JEq.Imm(asm.R0, gateways, "drop"),
		asm.LoadInd(asm.R0, asm.R8, offsetInterface+3, asm.Half),
		asm.JNE.Imm(asm.R0, eui64, "pass"),
	)
	for _, part := range []struct {
		id, mac int32
		size    asm.Size
		xor     int32
	}{{0, 0, asm.Half, universal}, {2, 2, asm.Byte, 0}, {5, 3, asm.Byte, 0}, {6, 4, asm.Half, 0}} {
		p = append(p,
			asm.LoadInd(asm.R0, asm.R8, offsetInterface+part.id, part.size),
			asm.Mov.Reg(asm.R7, asm.R0),
			asm.Xor.Imm(asm.R7, part.xor),
			asm.LoadAbs(offsetSrcMAC+part.mac, part.size),
			asm.JNE.Reg(asm.R0, asm.R7, "drop"),
		)
	}
	return append(p, asm.Ja.Label("pass"))
}

// four judges an IPv4 packet.
func four() asm.Instructions {
	p := asm.Instructions{
		asm.Add.Imm(asm.R8, offsetIPv4).WithSymbol("ipv4"),
		asm.LoadInd(asm.R0, asm.R8, offsetProtocol, asm.Byte),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.LoadInd(asm.R0, asm.R8, offsetFragment4, asm.Half),
		asm.And.Imm(asm.R0, maskFragment4),
		asm.JNE.Imm(asm.R0, 0, "pass"), // its first has been judged
		asm.LoadInd(asm.R0, asm.R8, 0, asm.Byte),
		asm.And.Imm(asm.R0, maskIHL),
		asm.LSh.Imm(asm.R0, 2), // in units of 4
		asm.Add.Reg(asm.R8, asm.R0),
		asm.JEq.Imm(asm.R7, udp, "udp4"),
		asm.JNE.Imm(asm.R7, icmp, "pass"),
	}
	p = append(p, holds("icmp", true, 1)...)
	p = append(p,
		asm.LoadInd(asm.R0, asm.R8, 0, asm.Byte),
		asm.JEq.Imm(asm.R0, redirect4, "drop"),
		asm.JEq.Imm(asm.R0, advertisement4, "drop"),
		asm.Ja.Label("pass"),
	)
	return append(p, datagram("udp4", dhcp4Client)...)
}

// datagram judges one of UDP by the port that it is for.
func datagram(symbol string, client int32) asm.Instructions {
	return append(holds(symbol, true, offsetDstPort+2),
		asm.LoadInd(asm.R0, asm.R8, offsetDstPort, asm.Half),
		asm.JEq.Imm(asm.R0, client, "drop"),
		asm.Ja.Label("pass"),
	)
}

// holds drops, at a port, a packet that has less than so many bytes at R8.
func holds(symbol string, port bool, bytes int32) asm.Instructions {
	p := asm.Instructions{asm.Mov.Reg(asm.R1, asm.R8).WithSymbol(symbol)}
	if port {
		p = append(p,
			asm.Add.Imm(asm.R1, bytes),
			asm.JGT.Reg(asm.R1, asm.R9, "drop"),
		)
	}
	return p
}
