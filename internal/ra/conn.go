package ra

import "net/netip"

// A Conn is one link as a router sees it. Write may be called while Read waits.
type Conn interface {
	// Read waits for one ICMPv6 message of type 133 or 134 with a correct
	// checksum. An error is final: the link must be dialed again.
	Read(b []byte) (Received, error)

	// Write sends an ICMPv6 message with hop limit 255 from Source, and fills in
	// its checksum. Of multicast ones the host's own sockets hear solicitations,
	// ours among them, but no advertisement. An error is about this message only.
	Write(b []byte, to netip.Addr) error

	// Source is the link-local address that messages come from.
	Source() netip.Addr

	// HardwareAddr is the link's own MAC address.
	HardwareAddr() [6]byte

	// Close ends a Read that is waiting.
	Close() error
}

// Received is a message that Read has put into its buffer.
type Received struct {
	Len      int
	Source   netip.Addr // without a zone
	HopLimit int
	// Fragmented says that it came in fragments, be it in one (RFC 6946).
	Fragmented bool
}

var (
	allNodes   = netip.MustParseAddr("ff02::1") // RFC 4291 §2.7.1
	allRouters = netip.MustParseAddr("ff02::2")
)
