package spec

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Status is what `v6net status` shows; its JSON form is stable. What there is none
// of is empty there and never null, whoever made the status.
type Status struct {
	Version  string             `json:"version"`           // the daemon's
	Error    string             `json:"error,omitempty"`   // what the host could not be given, for people
	Networks []NetworkStatus    `json:"networks"`          // all networks of v6net, by ID
	Pools    []PoolStatus       `json:"pools"`             // all pools that were handed out, by prefix
	Proxies  []ProxyStatus      `json:"proxies"`           // links on which the NDP proxy answers
	Parents  []AdvertiserStatus `json:"parents,omitempty"` // routes told to parent links, and routers heard there
	Sysctls  []SysctlStatus     `json:"sysctls"`           // settings of the host that were changed
	// Firewall is what keeps the rules: nftables, iptables-nft or iptables-legacy; empty:
	// nobody, since the NDP proxy alone runs.
	Firewall string `json:"firewall,omitempty"`
	// Obstacles are chains of others that refuse what v6net lets through.
	Obstacles []Obstacle `json:"obstacles,omitempty"`
	// Delegations are what sources have lent to this host, or try to.
	Delegations []DelegationStatus `json:"delegations,omitempty"`
}

// Obstacle is a chain of another firewall's on this host, and what mends it.
type Obstacle struct {
	Table string `json:"table"` // as nft names it: inet filter
	Chain string `json:"chain"` // its name
	Why   string `json:"why"`   // policy drop, say
	Fix   string `json:"fix"`   // the command that mends it
}

// NetworkStatus is one network with its endpoints.
type NetworkStatus struct {
	Network
	Bridge string `json:"bridge"`           // empty in the modes without one
	Parent string `json:"parent,omitempty"` // as of now
	Error  string `json:"error,omitempty"`  // why it is degraded, for people
	// Notes say what is not as one might think though nothing has failed, for people:
	// a prefix that is not lent now, a container that has not its new address.
	Notes     []string          `json:"notes,omitempty"`
	Endpoints []Endpoint        `json:"endpoints"`          // containers that are attached
	RA        *AdvertiserStatus `json:"ra,omitempty"`       // what is advertised to its containers; nil: nothing
	Firewall  *FirewallCounters `json:"firewall,omitempty"` // nil: no rule sees its packets, or they cannot be read
}

// FirewallCounters are packets of a network that belong to no known connection, as
// the first ones of all do; counted since the rules were last made whole.
type FirewallCounters struct {
	LetIn     uint64 `json:"let_in"`     // new connections from outside that were let in
	LetOut    uint64 `json:"let_out"`    // new connections to outside
	DeniedIn  uint64 `json:"denied_in"`  // packets from outside that were dropped
	DeniedOut uint64 `json:"denied_out"` // packets to outside that were dropped
	// Forged are what containers have sent from what is not theirs, by container.
	Forged map[string]uint64 `json:"forged,omitempty"`
}

// PoolStatus is one pool and how many of its addresses are leased.
type PoolStatus struct {
	Pool
	Leases int  `json:"leases"` // how many addresses are given away
	Used   bool `json:"used"`   // by a network of ours
}

// ProxyStatus is the NDP proxy on one parent.
type ProxyStatus struct {
	Parent    string `json:"parent"`               // the link
	Path      string `json:"path"`                 // the data path: ebpf or packet
	PathError string `json:"path_error,omitempty"` // why it is not the faster one
	Error     string `json:"error,omitempty"`      // why nothing is answered
	// AllMulticast says that groups are not joined one by one, as MLD snooping wants it.
	AllMulticast bool              `json:"all_multicast,omitempty"`
	Leases       int               `json:"leases"`              // how many addresses are answered for
	Addresses    []netip.Addr      `json:"addresses"`           // which they are
	Prefixes     []netip.Prefix    `json:"prefixes,omitempty"`  // answered for as a whole
	Conflicts    []ProxyConflict   `json:"conflicts,omitempty"` // who else has ours for theirs
	Counters     map[string]uint64 `json:"counters"`            // frames by verdict
}

// ProxyConflict is another host that has an address of ours for its own.
type ProxyConflict struct {
	Address      netip.Addr `json:"address"` // which one
	HardwareAddr string     `json:"mac"`     // who has it
	Seen         time.Time  `json:"seen"`    // last
}

// SysctlStatus is a setting of the host that v6net changed and will put back.
type SysctlStatus struct {
	Key      string `json:"key"`      // as a path below /proc/sys
	Original string `json:"original"` // what it held before
}

// MarshalJSON implements json.Marshaler.
func (s Status) MarshalJSON() ([]byte, error) {
	s.Networks, s.Pools, s.Proxies, s.Sysctls = list(s.Networks), list(s.Pools), list(s.Proxies), list(s.Sysctls)
	type plain Status
	return json.Marshal(plain(s))
}

// MarshalJSON implements json.Marshaler.
func (s NetworkStatus) MarshalJSON() ([]byte, error) {
	s.Endpoints = list(s.Endpoints)
	type plain NetworkStatus
	return json.Marshal(plain(s))
}

// MarshalJSON implements json.Marshaler.
func (s ProxyStatus) MarshalJSON() ([]byte, error) {
	s.Addresses, s.Counters = list(s.Addresses), counters(s.Counters)
	type plain ProxyStatus
	return json.Marshal(plain(s))
}

// MarshalJSON implements json.Marshaler.
func (s DelegationStatus) MarshalJSON() ([]byte, error) {
	s.Delegations = list(s.Delegations)
	type plain DelegationStatus
	return json.Marshal(plain(s))
}

// MarshalJSON implements json.Marshaler.
func (s AdvertiserStatus) MarshalJSON() ([]byte, error) {
	s.Counters = counters(s.Counters)
	type plain AdvertiserStatus
	return json.Marshal(plain(s))
}

// list is an empty list for none.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// counters are an empty object for none.
func counters(c map[string]uint64) map[string]uint64 {
	if c == nil {
		return map[string]uint64{}
	}
	return c
}
