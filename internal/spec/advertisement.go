package spec

import (
	"net/netip"
	"time"
)

// Seconds is a lifetime as router advertisements carry it. All ones is infinity
// (RFC 4861 §4.6.2).
type Seconds uint32

// Infinity is a lifetime that does not end.
const Infinity Seconds = 0xffffffff

// Duration is the lifetime as a duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// Preference is that of a router or a route (RFC 4191 §2.1).
type Preference string

// The preferences. The zero value is medium.
const (
	PreferenceLow    Preference = "low"
	PreferenceMedium Preference = ""
	PreferenceHigh   Preference = "high"
)

// Advertisement is what the host says on a link, as a router (RFC 4861 §6.2.1).
type Advertisement struct {
	Link string `json:"link"` // the interface of this host
	// Source is the link-local address that it comes from; zero: whichever the link has.
	Source netip.Addr `json:"source,omitzero"`
	// RouterLifetime is how long hosts use the source as a default router; 0: they do not.
	RouterLifetime Seconds                 `json:"router_lifetime"`
	Preference     Preference              `json:"preference,omitempty"`     // as a default router
	Managed        bool                    `json:"managed,omitempty"`        // M: DHCPv6 has addresses
	Other          bool                    `json:"other,omitempty"`          // O: DHCPv6 has other settings
	HopLimit       uint8                   `json:"hop_limit,omitempty"`      // 0: hosts keep theirs
	MTU            int                     `json:"mtu,omitempty"`            // 0: hosts keep theirs
	Prefixes       []AdvertisedPrefix      `json:"prefixes,omitempty"`       // prefixes of the link (RFC 4861 §4.6.2)
	Routes         []AdvertisedRoute       `json:"routes,omitempty"`         // routes by this router (RFC 4191 §2.3)
	DNS            []Lasting[netip.Addr]   `json:"dns_servers,omitempty"`    // RFC 8106 §5.1
	Search         []Lasting[string]       `json:"search_domains,omitempty"` // RFC 8106 §5.2
	PREF64         []Lasting[netip.Prefix] `json:"nat64_prefixes,omitempty"` // RFC 8781
	CaptivePortal  string                  `json:"captive_portal,omitempty"` // RFC 8910 §2.3

	// Upstream is the link whose routers know more: the MTU is never larger than
	// theirs, and their DNS servers, search domains and NAT64 prefixes are said
	// here, too, each kind where there is none of our own. Empty: none.
	Upstream string `json:"upstream,omitempty"`
}

// Lasting is something that is advertised with a lifetime of its own.
type Lasting[T comparable] struct {
	Value    T         `json:"value"`          // what is advertised
	Lifetime Seconds   `json:"lifetime"`       // in seconds; 0: withdrawn
	Until    time.Time `json:"until,omitzero"` // as a prefix's
}

// AdvertisedPrefix is a prefix of the link (RFC 4861 §4.6.2).
type AdvertisedPrefix struct {
	Prefix     netip.Prefix `json:"prefix"`               // with the whole address where Router is set
	OnLink     bool         `json:"on_link"`              // L: its addresses are neighbours
	Autonomous bool         `json:"autonomous"`           // A: hosts make addresses from it (SLAAC)
	Router     bool         `json:"router,omitempty"`     // R: Prefix holds the router's address (RFC 6275 §7.2)
	Delegating bool         `json:"delegating,omitempty"` // P: hosts ask for a prefix of their own first (RFC 9762 §4)
	Valid      Seconds      `json:"valid"`                // how long it may be used; 4294967295: for ever
	Preferred  Seconds      `json:"preferred"`            // how long new connections may have its addresses
	// PreferredUntil and ValidUntil are when the lifetimes end, though they may be
	// longer: in real time, as those of the delegation do that the prefix is part of
	// (RFC 9096 §3.3). Zero: never.
	PreferredUntil time.Time `json:"preferred_until,omitzero"`
	ValidUntil     time.Time `json:"valid_until,omitzero"` // as preferred_until, of valid
	// Until is zero for a prefix in use. A withdrawn one goes out with lifetimes
	// of 0 until then (RFC 9096 §3.5).
	Until time.Time `json:"until,omitzero"`
	// Upstream says that it is part of a prefix of the upstream link, whose
	// lifetimes its own never exceed (RFC 9096 §3.3).
	Upstream bool `json:"upstream,omitempty"`
}

// AdvertisedRoute is a prefix behind the host (RFC 4191 §2.3).
type AdvertisedRoute struct {
	Prefix     netip.Prefix `json:"prefix"`               // where the route leads
	Preference Preference   `json:"preference,omitempty"` // low or high; none: medium
	Lifetime   Seconds      `json:"lifetime"`             // in seconds; 0: withdrawn
	Until      time.Time    `json:"until,omitzero"`       // as a prefix's
}

// AdvertiserStatus is one advertiser's. Its Advertisement is the last one that
// went out.
type AdvertiserStatus struct {
	Advertisement
	Sent  time.Time `json:"sent,omitzero"`   // when that was; zero: nothing has been said yet
	Error string    `json:"error,omitempty"` // why it does not advertise, for people
	// Notes say what does not fit together with other routers of the link, for people.
	Notes    []string          `json:"notes,omitempty"`
	Routers  []HeardRouter     `json:"routers,omitempty"` // the others of the link
	Counters map[string]uint64 `json:"counters"`          // messages sent, and received by verdict
}

// HeardRouter is another router of a link, with what it has advertised. Lifetimes
// are what is left of them.
type HeardRouter struct {
	Advertisement           // Source is the router's
	At            time.Time `json:"at"` // when it was heard last
}
