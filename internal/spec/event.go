package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// An EventType is the kind of thing that has happened.
type EventType string

// The types of events.
const (
	EventNDP      EventType = "ndp"      // a solicitation that the NDP proxy has judged
	EventRA       EventType = "ra"       // a router advertisement, sent or heard
	EventLease    EventType = "lease"    // an address taken from a pool, or released
	EventPrefix   EventType = "prefix"   // what a source lends to this host
	EventPool     EventType = "pool"     // a pool taken or released
	EventNetwork  EventType = "network"  // a network that comes, goes, is degraded or well again
	EventEndpoint EventType = "endpoint" // a container that joins or leaves
	EventRenumber EventType = "renumber" // a network's prefixes have changed
	EventFirewall EventType = "firewall" // a packet that was denied
	// EventLost stands for events that a slow reader has not been given.
	EventLost EventType = "lost"
)

// EventTypes are those that can be asked for, in the order of the documentation.
var EventTypes = []EventType{
	EventNDP, EventRA, EventLease, EventPrefix, EventPool, EventNetwork, EventEndpoint, EventRenumber, EventFirewall,
}

// CheckEventType says what is allowed.
func CheckEventType(t EventType) error {
	if slices.Contains(EventTypes, t) {
		return nil
	}
	words := make([]string, len(EventTypes))
	for i, known := range EventTypes {
		words[i] = string(known)
	}
	return fmt.Errorf("event type %q is not allowed (allowed: %s)", t, strings.Join(words, ", "))
}

// A MAC is a hardware address; zero: none. It is a value, so that an event about a
// frame costs no memory of its own.
type MAC [6]byte

// String is colon-separated hex.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// MarshalText implements encoding.TextMarshaler.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *MAC) UnmarshalText(text []byte) error {
	if _, err := fmt.Sscanf(string(text), "%02x:%02x:%02x:%02x:%02x:%02x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]); err != nil {
		return fmt.Errorf("hardware address %q: %w", text, err)
	}
	return nil
}

// Event is one thing that has happened, as `v6net watch --json` prints it. Its JSON
// form is stable: fields are added, and none is taken away. What does not apply is left out.
type Event struct {
	Time time.Time `json:"time"` // of the wall clock
	Type EventType `json:"type"` // one of those above
	What string    `json:"what"` // within the type: answered, sent, taken, gained, joined, …
	// Reason says why, or how: a reason of the NDP proxy's counters, why a network is
	// degraded, what denied a packet.
	Reason      string `json:"reason,omitempty"`
	Network     string `json:"network,omitempty"`      // ID
	NetworkName string `json:"network_name,omitempty"` // its name, where its engine tells it
	Endpoint    string `json:"endpoint,omitempty"`     // ID
	Container   string `json:"container,omitempty"`    // name, where its engine tells it
	Link        string `json:"link,omitempty"`         // the interface of this host
	// Source and Destination are those of a packet, Address what it or the event is about.
	Source      netip.Addr   `json:"source,omitzero"`
	Destination netip.Addr   `json:"destination,omitzero"` // whom it went to
	Address     netip.Addr   `json:"address,omitzero"`     // whom or what it is about: the target of a solicitation, a leased address
	MAC         MAC          `json:"mac,omitzero"`         // of who sent
	Prefix      netip.Prefix `json:"prefix,omitzero"`      // the prefix or pool it is about
	Until       time.Time    `json:"until,omitzero"`       // end of the prefix's life; zero: none is known
	Protocol    string       `json:"protocol,omitempty"`   // of a denied packet
	Port        uint16       `json:"port,omitempty"`       // its destination port
	Detail      string       `json:"detail,omitempty"`     // for people
	// Advertisement is what a router said, of type ra.
	Advertisement *Advertisement `json:"advertisement,omitempty"`
	Lost          uint64         `json:"lost,omitempty"` // of type lost: how many
}

// Events is where packages say what happens. Whoever has something to say of a type
// asks first whether it is Wanted, which costs next to nothing; Publish never waits.
type Events interface {
	Wanted(EventType) bool
	Publish(Event)
}

// NoEvents are those that nobody is told of.
type NoEvents struct{}

// Wanted implements Events.
func (NoEvents) Wanted(EventType) bool { return false }

// Publish implements Events.
func (NoEvents) Publish(Event) {}
