package ndproxy

import (
	"encoding/binary"
	"net/netip"
)

// FrameLen is the length of an advertisement's Ethernet frame, in bytes.
const FrameLen = optionOffset + lladdrLen

// An Advertisement is a neighbor advertisement of the proxy (RFC 4861 §4.4). Its
// Router flag is always set, because who proxies is a router, its Override flag
// not unless [Knobs] want it (§7.2.8), and it always carries the target
// link-layer address.
type Advertisement struct {
	Target       netip.Addr
	HardwareAddr [6]byte // where to reach Target: the proxy's own
	Source       netip.Addr
	Destination  netip.Addr
	NextHop      [6]byte // hardware address of Destination
	Solicited    bool
	Override     bool
}

// unsolicited tells the link's neighbors about a new target (RFC 4861 §7.2.6).
func unsolicited(target netip.Addr, at Station) Advertisement {
	return at.advertise(target, allNodes, multicastMAC(allNodes))
}

func (s Station) advertise(target, destination netip.Addr, nextHop [6]byte) Advertisement {
	source := s.LinkLocal
	if !source.IsValid() || s.TargetAsSource {
		source = target
	}
	return Advertisement{
		Target: target, HardwareAddr: s.HardwareAddr,
		Source: source, Destination: destination, NextHop: nextHop,
		// RFC 4861 §7.2.4: unsolicited and to all nodes, or solicited and to one.
		Solicited: !destination.IsMulticast(),
		Override:  s.Override,
	}
}

// Flags of an advertisement, in its fifth byte (RFC 4861 §4.4).
const (
	flagRouter    = 1 << 7
	flagSolicited = 1 << 6
	flagOverride  = 1 << 5
)

// SolicitedFlags are the flags of a solicited answer, in the message's fifth byte.
func (s Station) SolicitedFlags() byte {
	return s.advertise(allNodes, allNodes, [6]byte{}).flags() | flagSolicited
}

func (a Advertisement) flags() byte {
	flags := byte(flagRouter)
	if a.Solicited {
		flags |= flagSolicited
	}
	if a.Override {
		flags |= flagOverride
	}
	return flags
}

// AppendFrame appends the advertisement's Ethernet frame, FrameLen bytes.
func (a Advertisement) AppendFrame(b []byte) []byte {
	start := len(b)
	source, destination, target := a.Source.As16(), a.Destination.As16(), a.Target.As16()

	b = append(b, a.NextHop[:]...)
	b = append(b, a.HardwareAddr[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeIPv6)

	b = append(b, 6<<4, 0, 0, 0) // version, no traffic class or flow label
	b = binary.BigEndian.AppendUint16(b, neighborLen+lladdrLen)
	b = append(b, protocolICMPv6, ndHopLimit)
	b = append(b, source[:]...)
	b = append(b, destination[:]...)

	b = append(b, typeAdvertisement, 0, 0, 0, a.flags(), 0, 0, 0)
	b = append(b, target[:]...)
	b = append(b, optionTargetLinkLayer, lladdrLen/8)
	b = append(b, a.HardwareAddr[:]...)

	f := b[start:]
	sum := checksum(f[ipv6Offset+8:icmpOffset], f[icmpOffset:])
	binary.BigEndian.PutUint16(f[icmpOffset+2:], sum)
	return b
}
