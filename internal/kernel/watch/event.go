package watch

import (
	"net/netip"
	"strconv"
)

// Kind says what an [Event] is about.
type Kind uint8

// The kinds of event.
const (
	// Resync says that events were lost and anything may have changed: read the
	// world again.
	Resync  Kind = iota
	Link         // a link was made, changed, renamed or deleted
	Address      // an address was added, changed or deleted
	Route        // a route was added, replaced or deleted
	// Namespace says that a network namespace is gone of which this one knew, since
	// a link went from here to there. Its links are about to go.
	Namespace
)

func (k Kind) String() string {
	switch k {
	case Resync:
		return "resync"
	case Link:
		return "link"
	case Address:
		return "address"
	case Route:
		return "route"
	case Namespace:
		return "namespace"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Event is one change in the kernel.
type Event struct {
	Kind    Kind
	Index   int          // of the link; 0: a route of several links or of none
	Link    string       // the link's name; empty where it is not known (any more)
	Up      bool         // of a Link: IFF_UP and IFF_LOWER_UP
	Deleted bool         // the link has left the namespace or that name, the address or route is no more
	Renamed string       // of a Link that has left that name: what it is called now
	Prefix  netip.Prefix // of an Address: with its prefix length; of a Route: its destination
	// Protocol is who has made a Route, as rtnetlink's rtm_protocol.
	Protocol uint8
}
