package pd

import (
	"context"
	"net/netip"
)

// A Conn carries DHCPv6 messages on one link. It is used for one exchange.
type Conn interface {
	// Send sends a message to all servers and relays of the link: ff02::1:2, port 547
	// (RFC 8415 §7.1, §7.2).
	Send(message []byte) error
	// Receive waits for a message to the client's port, and says where it came from.
	Receive(b []byte) (n int, from netip.Addr, err error)
	// Close ends a Receive that is waiting.
	Close() error
}

// A Dialer opens the client's link.
type Dialer func(ctx context.Context) (Conn, error)

// mostMessage is the length of the longest message that is read: what a link's
// packets hold (jumbo frames included), since servers send no fragments.
const mostMessage = 9000
