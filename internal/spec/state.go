package spec

import "net/netip"

// State is all that the journal holds.
type State struct {
	Networks   []Network
	Endpoints  []Endpoint
	Pools      []Pool
	Leases     map[string][]netip.Addr // by pool ID
	Sysctls    map[string]string       // what a key held before v6net set it
	Advertised []Advertisement         // what links were last told, so that what goes can be withdrawn
}
