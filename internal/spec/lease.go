package spec

import "time"

// DelegationLease is what one source has lent on one link, with what it needs to go
// on with it after a restart of the daemon or of the machine: the journal's record.
type DelegationLease struct {
	SourceOnLink
	Boot string `json:"boot,omitempty"` // in which boot of the machine it was confirmed last
	// Server is the DHCPv6 server's identifier, its DUID (RFC 8415 §11).
	Server       []byte        `json:"server,omitempty"`
	Associations []Association `json:"associations"`
}

// Association is an identity association for prefix delegation (RFC 8415 §4.2).
// What a cloud's metadata say is one, too, of which nothing is renewed.
type Association struct {
	ID uint32 `json:"iaid"`
	// When to ask the server for more time, and when to ask any (T1 and T2). Zero: never.
	Renew       time.Time    `json:"renew,omitzero"`
	Rebind      time.Time    `json:"rebind,omitzero"`
	Delegations []Delegation `json:"delegations"`
}

// Delegations are those of all associations.
func (l DelegationLease) Delegations() []Delegation {
	var all []Delegation
	for _, a := range l.Associations {
		all = append(all, a.Delegations...)
	}
	return all
}

// DelegationReport is what a source says whenever something has changed with it.
type DelegationReport struct {
	State string // in words: DelegationStatus.State
	Error string // what went wrong last; empty: nothing
	// Answered says that whoever waits for a first answer has it, also where it is
	// that there is no prefix.
	Answered bool
	Lease    DelegationLease
}
