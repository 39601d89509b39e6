package spec

import "net/netip"

// NetworkRequest asks for a network with its pools in one call. It is for front
// ends that keep no state of their own; Docker's asks for pools and addresses one
// by one.
type NetworkRequest struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`      // as its user calls it
	FrontEnd string          `json:"front_end"` // who asks, and will say when it is gone
	Options  Options         `json:"options"`
	Internal bool            `json:"internal"`
	Names    bool            `json:"names,omitempty"` // as Network.Names
	IPv6     []SubnetRequest `json:"ipv6"`
	IPv4     []SubnetRequest `json:"ipv4"` // none: the network is without IPv4
}

// SubnetRequest asks for a pool with its gateway.
type SubnetRequest struct {
	Pool    PoolRequest `json:"pool"`
	Gateway netip.Addr  `json:"gateway"` // zero: one that v6net finds, unless NoGateway
	// NoGateway leaves the bridge without an address in the pool.
	NoGateway bool `json:"no_gateway,omitempty"`
}

// AttachRequest asks for a container's attachment to a network in one call.
type AttachRequest struct {
	// Network is made first where the daemon does not know it, its journal having been lost.
	Network   NetworkRequest `json:"network"`
	ID        string         `json:"id"`        // the endpoint's
	Container string         `json:"container"` // ID of the container, the same on all of its networks
	Name      string         `json:"name"`      // the container's, for people
	Interface string         `json:"interface"` // what its link is called in the container
	Sandbox   string         `json:"sandbox"`   // path of its network namespace
	Addresses []netip.Addr   `json:"addresses"` // at most one a family; the other is found
	MAC       string         `json:"mac"`       // empty: v6net makes one
	Ports     []Port         `json:"ports"`     // to publish while this is the container's first network
}

// Attached is an attachment, ready to be moved into the container.
type Attached struct {
	Endpoint   Endpoint   `json:"endpoint"`
	Attachment Attachment `json:"attachment"`
	// Servers are the bridge's own addresses that the container reaches, IPv6 first.
	Servers []netip.Addr `json:"servers"`
}
