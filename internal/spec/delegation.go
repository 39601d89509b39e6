package spec

import (
	"net/netip"
	"slices"
	"time"
)

// Delegation is a prefix that a source (pd, cloud, parent) has lent to this host.
type Delegation struct {
	Source Source       `json:"source"` // pd, cloud or parent
	Parent string       `json:"parent"` // the link by which it came
	Prefix netip.Prefix `json:"prefix"` // what is lent
	// Until when its addresses may begin connections, and be used at all (RFC 8415
	// §21.22). Zero: for ever.
	Preferred time.Time `json:"preferred,omitzero"`
	Valid     time.Time `json:"valid,omitzero"` // as preferred, for the end of all use
	// OnLink says that the parent's neighbours take its addresses for their own, so
	// that somebody must answer for them; else they are routed to this host.
	OnLink bool `json:"on_link,omitempty"`
	// Evidence is by what OnLink was found out, for people, where whoever lends does not
	// say it. Empty: by nothing yet, or nothing had to be.
	Evidence string `json:"evidence,omitempty"`
	// Origin says who lent it, for people: "server 00:03:…", "DigitalOcean's metadata".
	Origin string `json:"origin"`
}

// SourceOnLink names one source on one link: what runs to have prefixes lent.
type SourceOnLink struct {
	Source Source `json:"source"` // pd, cloud or parent
	Link   string `json:"link"`   // the interface that it asks on
}

// IsShared reports whether what the source lends is not this host's alone: of the parent's
// own prefix everybody on the link may have addresses, and networks have parts that nobody
// answered for.
func (s SourceOnLink) IsShared() bool { return s.Source == SourceParent }

// OnLinkPrefix is a prefix that the hosts of a link take for their own.
type OnLinkPrefix struct {
	Prefix netip.Prefix
	// Deprecated says that nothing is to begin with it any more: the preferred lifetime
	// of all the link's addresses in it is over.
	Deprecated bool
	Valid      time.Duration // for how long it is there yet; 0: without end, as far as the kernel says
	// ByRoute says that the link has no address in it, only a route: how long it is there, and
	// whether something is to begin with it, nobody says.
	ByRoute bool
}

// ParentOrigin is by whom a link's own prefix is lent, for people (Delegation.Origin).
const ParentOrigin = "the link's routers, or by hand"

// MaxSharedBits is the longest prefix of a link that is worth sharing out.
const MaxSharedBits = 120

// DelegationStatus is how a source fares on a link.
type DelegationStatus struct {
	SourceOnLink
	State       string       `json:"state"`           // in words: soliciting, bound, renewing, …
	Since       time.Time    `json:"since"`           // when that state began
	Error       string       `json:"error,omitempty"` // what went wrong last, for people
	Delegations []Delegation `json:"delegations"`     // what is lent now
}

// Limits of the length of a prefix that may be lent. A shorter one is a provider's
// own or more, and the unreachable route for it would cut this host off from others'
// networks; a longer one has no room for a pool.
const (
	MinDelegationBits = 32
	MaxDelegationBits = MaxPoolBits6
)

// delegable is what lent prefixes are of: global unicast, as far as it is given out
// (RFC 4291 §2.4), and unique local addresses (RFC 4193).
var delegable = []netip.Prefix{netip.MustParsePrefix("2000::/3"), ulaRange}

// IsDelegable reports whether a prefix may be lent to this host, whoever says that it is.
func IsDelegable(p netip.Prefix) bool {
	return p.IsValid() && p.Bits() >= MinDelegationBits && p.Bits() <= MaxDelegationBits &&
		slices.ContainsFunc(delegable, func(d netip.Prefix) bool { return d.Contains(p.Addr()) })
}
