package ndproxy

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// Leases says which addresses to answer for.
type Leases interface {
	// Has reports whether addr is answered for: it has a live lease, or is of a
	// prefix that is ours as a whole.
	Has(addr netip.Addr) bool

	// Leased reports whether addr has a live lease of its own.
	Leased(addr netip.Addr) bool
}

// Decide judges one Ethernet frame that was received by the station at. It keeps
// no state, allocates nothing and asks leases once for each the target and the source
// of a valid message. The frame may be padded, and may be anything.
//
// The random delay of RFC 4861 §7.2.8 is the caller's: one proxy alone for its
// leases needs none.
func Decide(frame []byte, at Station, leases Leases) Verdict {
	m, reason := parse(frame, at)
	if reason.Action() != Answer && reason != Conflict {
		return Verdict{Reason: reason}
	}
	if reason.Action() == Answer && leases.Leased(m.source) {
		// Who asks under an address of ours has it, and says so to all it asks. That
		// the source is of a prefix says nothing: hosts and routers are on the link
		// under such addresses.
		if m.ours {
			return Verdict{Reason: Looped}
		}
		return Verdict{Reason: Conflict, Rival: Rival{m.source, m.from}}
	}
	switch leased := leases.Has(m.target); {
	case reason == Conflict && leased:
		return Verdict{Reason: reason, Rival: Rival{m.target, m.from}}
	case reason == Conflict:
		return Verdict{Reason: Advertised}
	case !leased:
		return Verdict{Reason: UnknownTarget}
	case reason == Defended:
		return Verdict{Reason: reason, Advertisement: unsolicited(m.target, at)}
	}
	// To the station that asked, not to whom its options name: a solicitation
	// need not carry a source link-layer address (§7.2.2), and what is sent back
	// to the sender cannot be aimed at somebody else.
	return Verdict{Reason: reason, Advertisement: at.advertise(m.target, m.source, m.from)}
}

// message is what needs to be known of a valid solicitation or advertisement.
type message struct {
	from   [6]byte    // the frame's sender
	source netip.Addr // unspecified for duplicate address detection
	target netip.Addr
	ours   bool // its source link-layer address is the station's
}

// parse validates a frame as RFC 4861 §7.1.1 and RFC 6980 demand. The reason is
// that of the answer which a leased target deserves, or why there is none.
//
// An advertisement is held to §7.1.2; its reason is Conflict.
func parse(frame []byte, at Station) (message, Reason) {
	var s message
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
	body := ip[ipv6Len:][:length] // Ethernet may have padded it
	if length == 0 || body[0] != typeSolicitation && body[0] != typeAdvertisement {
		return s, NotSolicitation
	}

	switch {
	case ip[7] != ndHopLimit:
		return s, BadHopLimit
	case length < neighborLen:
		return s, BadLength
	case checksum(ip[8:ipv6Len], body) != 0:
		return s, BadChecksum
	case body[1] != 0:
		return s, BadCode
	}
	s.source = netip.AddrFrom16([16]byte(ip[8:]))
	s.target = netip.AddrFrom16([16]byte(body[8:]))
	if s.target.IsMulticast() {
		return s, BadTarget
	}
	// RFC 4291 §2.5.3, §2.7: neither is ever a source on a link. A sender in a
	// group would have the answer flooded (IEEE 802).
	if s.source.IsMulticast() || s.source.IsLoopback() || s.from[0]&1 != 0 {
		return s, BadSource
	}
	o, ok := walkOptions(body[neighborLen:])
	switch {
	case !ok:
		return s, BadOption
	case body[0] == typeAdvertisement && ip[24] == 0xff && body[4]&flagSolicited != 0:
		return s, BadSolicited
	case body[0] == typeAdvertisement:
		return s, Conflict
	}
	if s.source.IsUnspecified() {
		switch {
		case !bytes.Equal(ip[24:][:len(solicitedNode)], solicitedNode[:]):
			return s, BadDestination
		case o.sourceLinkLayer:
			return s, BadDADOption
		case at.Nonces.own(s.target, o.nonce):
			return s, Looped
		}
		return s, Defended
	}
	s.ours = o.sourceLinkLayer && o.lladdr == at.HardwareAddr
	if group {
		return s, Solicited
	}
	return s, Probed
}

// options are what counts of those of a message.
type options struct {
	sourceLinkLayer bool
	lladdr          [6]byte
	nonce           []byte
}

// walkOptions reads options, and reports whether all of them have a length, which
// RFC 4861 §4.6 counts in units of 8 bytes.
func walkOptions(b []byte) (o options, ok bool) {
	for len(b) > 0 {
		if len(b) < 2 || b[1] == 0 || int(b[1])*8 > len(b) {
			return options{}, false
		}
		length := int(b[1]) * 8
		switch b[0] {
		case optionSourceLinkLayer:
			o.sourceLinkLayer, o.lladdr = true, [6]byte(b[2:])
		case optionNonce:
			o.nonce = b[2:length]
		}
		b = b[length:]
	}
	return o, true
}
