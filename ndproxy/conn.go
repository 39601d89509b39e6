package ndproxy

import (
	"io"
	"net/netip"
)

// A Conn is one link as the proxy sees it. Its methods are safe for concurrent use.
type Conn interface {
	// Read returns one whole Ethernet frame that the link received and Write
	// sends one. An error of Read is final: the link must be dialed again.
	// Close ends a Read that is waiting.
	io.ReadWriteCloser

	// HardwareAddr is the link's own MAC address.
	HardwareAddr() [6]byte

	// LinkLocal is the link's own link-local address, zero while it has none.
	LinkLocal() netip.Addr

	// Join makes sure that solicitations for addr arrive, by membership of its
	// solicited-node group (RFC 4861 §7.2.8), and Leave ends that. Both are
	// idempotent. Without either, frames arrive where no switch on the way prunes
	// multicast by MLD.
	Join(addr netip.Addr) error
	Leave(addr netip.Addr) error
}

// A Station is how the host appears on a link.
type Station struct {
	HardwareAddr [6]byte

	// LinkLocal is the source of advertisements, an address of the link itself
	// (RFC 4861 §4.4). While it is zero their source is their target.
	LinkLocal netip.Addr
}

func station(c Conn) Station {
	return Station{HardwareAddr: c.HardwareAddr(), LinkLocal: c.LinkLocal()}
}
