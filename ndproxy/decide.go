package ndproxy

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// Leases says which addresses to answer for.
type Leases interface {
	// Has reports whether addr has a live lease.
	Has(addr netip.Addr) bool
}

// Decide judges one Ethernet frame that was received by the station at. It keeps
// no state, allocates nothing and asks leases once, for the target of a valid
// solicitation. The frame may be padded, and may be anything.
//
// The proxy is the only one for its leases, so it answers at once and leaves out
// the random delay of RFC 4861 §7.2.8.
func Decide(frame []byte, at Station, leases Leases) Verdict {
	s, reason := parse(frame, at)
	if reason.Action() != Answer {
		return Verdict{Reason: reason}
	}
	if !leases.Has(s.target) {
		return Verdict{Reason: UnknownTarget}
	}
	if reason == Defended {
		return Verdict{Reason: reason, Advertisement: unsolicited(s.target, at)}
	}
	// To the station that asked, not to whom its options name: a solicitation
	// need not carry a source link-layer address (§7.2.2), and what is sent back
	// to the sender cannot be aimed at somebody else.
	return Verdict{Reason: reason, Advertisement: at.advertise(s.target, s.source, s.from)}
}

// solicitation is what an answer needs to know of a valid solicitation.
type solicitation struct {
	from   [6]byte    // the frame's sender
	source netip.Addr // unspecified for duplicate address detection
	target netip.Addr
}

// parse validates a frame as RFC 4861 §7.1.1 and RFC 6980 demand. The reason is
// that of the answer which a leased target deserves, or why there is none.
func parse(frame []byte, at Station) (solicitation, Reason) {
	var s solicitation
	if len(frame) < icmpOffset || binary.BigEndian.Uint16(frame[12:]) != etherTypeIPv6 || frame[ipv6Offset]>>4 != 6 {
		return s, NotSolicitation
	}
	to := [6]byte(frame[0:])
	s.from = [6]byte(frame[6:])
	group := to[0]&1 != 0 // IEEE 802: the destination's I/G bit
	switch {
	case s.from == at.HardwareAddr:
		return s, Own
	case !group && to != at.HardwareAddr:
		return s, OtherHost
	}

	ip := frame[ipv6Offset:]
	switch ip[6] {
	case protocolICMPv6:
	case protocolFragment:
		return s, Fragmented
	case protocolHopByHop, protocolRouting, protocolAH, protocolDestOpts, protocolMobility, protocolHIP, protocolShim6:
		return s, ExtensionHeader
	default:
		return s, NotSolicitation
	}
	length := int(binary.BigEndian.Uint16(ip[4:]))
	if length > len(ip)-ipv6Len {
		return s, Truncated
	}
	message := ip[ipv6Len:][:length] // Ethernet may have padded it
	if length == 0 || message[0] != typeSolicitation {
		return s, NotSolicitation
	}

	switch {
	case ip[7] != ndHopLimit:
		return s, BadHopLimit
	case length < neighborLen:
		return s, BadLength
	case checksum(ip[8:ipv6Len], message) != 0:
		return s, BadChecksum
	case message[1] != 0:
		return s, BadCode
	}
	s.source = netip.AddrFrom16([16]byte(ip[8:]))
	s.target = netip.AddrFrom16([16]byte(message[8:]))
	if s.target.IsMulticast() {
		return s, BadTarget
	}
	// RFC 4291 §2.5.3, §2.7: neither is ever a source on a link. A sender in a
	// group would have the answer flooded (IEEE 802).
	if s.source.IsMulticast() || s.source.IsLoopback() || s.from[0]&1 != 0 {
		return s, BadSource
	}
	sourceLinkLayer, ok := walkOptions(message[neighborLen:])
	if !ok {
		return s, BadOption
	}
	if s.source.IsUnspecified() {
		switch {
		case !bytes.Equal(ip[24:][:len(solicitedNode)], solicitedNode[:]):
			return s, BadDestination
		case sourceLinkLayer:
			return s, BadDADOption
		}
		return s, Defended
	}
	if group {
		return s, Solicited
	}
	return s, Probed
}

// walkOptions reports whether a source link-layer address is among the options,
// and whether all of them have a length, which §4.6 counts in units of 8 bytes.
func walkOptions(b []byte) (sourceLinkLayer, ok bool) {
	for len(b) > 0 {
		if len(b) < 2 || b[1] == 0 || int(b[1])*8 > len(b) {
			return false, false
		}
		sourceLinkLayer = sourceLinkLayer || b[0] == optionSourceLinkLayer
		b = b[int(b[1])*8:]
	}
	return sourceLinkLayer, true
}
