package ndproxy

import "net/netip"

// Seen is a frame that was judged, for who watches.
type Seen struct {
	Reason Reason
	From   [6]byte    // the frame's sender
	Source netip.Addr // of the packet; zero where the frame is too short to say
	Target netip.Addr // likewise
	Lost   uint64     // frames before this one of which there was no room to say anything
}

// saw reads a frame that was judged. Of one that is not valid the fields are what
// stands in their places.
func saw(frame []byte, reason Reason) Seen {
	s := Seen{Reason: reason}
	if len(frame) >= ethernetLen {
		s.From = [6]byte(frame[6:])
	}
	if len(frame) >= icmpOffset {
		s.Source = netip.AddrFrom16([16]byte(frame[ipv6Offset+8:]))
	}
	if len(frame) >= icmpOffset+neighborLen && frame[ipv6Offset+6] == protocolICMPv6 {
		s.Target = netip.AddrFrom16([16]byte(frame[icmpOffset+8:]))
	}
	return s
}

// A Reporter is a [FastPath] that can say what it settles.
type Reporter interface {
	// Report calls f with each frame that is settled from now on, as far as it can
	// keep up with them, and not any more where f is nil. It can be called at any time.
	Report(f func(Seen)) error
}
