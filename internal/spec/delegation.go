package spec

import (
	"net/netip"
	"time"
)

// Delegation is a prefix that a source (pd, cloud) has lent to this host.
type Delegation struct {
	Source Source       `json:"source"`
	Parent string       `json:"parent"` // the link by which it came
	Prefix netip.Prefix `json:"prefix"`
	// Until when its addresses may begin connections, and be used at all (RFC 8415
	// §21.22). Zero: for ever.
	Preferred time.Time `json:"preferred,omitzero"`
	Valid     time.Time `json:"valid,omitzero"`
	// OnLink says that the parent's neighbours take its addresses for their own, so
	// that somebody must answer for them; else they are routed to this host.
	OnLink bool `json:"on_link,omitempty"`
	// Origin says who lent it, for people: "server 00:03:…", "DigitalOcean's metadata".
	Origin string `json:"origin"`
}
