package dhcp6

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/afpacket"
)

// open opens a packet socket for the answers that arrive on the link for an address.
// Its packets begin with the IPv6 header, also on links that are no Ethernet.
func open(l link, addr netip.Addr) (*os.File, error) {
	return afpacket.Open(afpacket.Socket{
		Name: "on " + l.name, Type: unix.SOCK_DGRAM, Ifindex: l.index, Protocol: unix.ETH_P_IPV6, Filter: filter(l, addr),
		Prepare: func(fd int) error {
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
				return fmt.Errorf("ask for the state of checksums: %w", err)
			}
			return nil
		},
	})
}

// filter passes datagrams to the client port of an address that the link itself
// received for this host. Behind an extension header none is passed: a server has no
// reason for one, and answers are too short for fragments.
func filter(l link, addr netip.Addr) []bpf.Instruction {
	type test struct {
		load bpf.Instruction
		when bpf.JumpTest
		than uint32
	}
	tests := []test{
		// A frame for a VLAN above the link comes to the link's sockets, too
		// (net/core/dev.c __netif_receive_skb_core: orig_dev).
		{bpf.LoadExtension{Num: bpf.ExtInterfaceIndex}, bpf.JumpNotEqual, uint32(l.index)},
		// Neither another host's nor one that this host sends.
		{bpf.LoadExtension{Num: bpf.ExtType}, bpf.JumpNotEqual, unix.PACKET_HOST},
		{bpf.LoadAbsolute{Off: 6, Size: 1}, bpf.JumpNotEqual, unix.IPPROTO_UDP},
		{bpf.LoadAbsolute{Off: ipv6Len + 2, Size: 2}, bpf.JumpNotEqual, clientPort},
	}
	for i, b := 0, addr.As16(); i < len(b); i += 4 {
		tests = append(tests, test{bpf.LoadAbsolute{Off: uint32(24 + i), Size: 4}, bpf.JumpNotEqual, binary.BigEndian.Uint32(b[i:])})
	}
	var f []bpf.Instruction
	for i, t := range tests {
		f = append(f, t.load, bpf.JumpIf{Cond: t.when, Val: t.than, SkipTrue: uint8(2*(len(tests)-1-i) + 1)})
	}
	return append(f,
		bpf.RetConstant{Val: 1 << 18}, // whole packets
		bpf.RetConstant{Val: 0},
	)
}
