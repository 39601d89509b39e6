package spec

import (
	"fmt"
	"net/netip"
	"slices"
)

// minID is the shortest network or endpoint ID from which a unique interface name can be made.
const minID = 12

// CheckID says whether an ID from outside can be used: 12 to 64 lower-case hex digits.
func CheckID(kind, id string) error {
	if len(id) < minID || len(id) > 64 {
		return fmt.Errorf("%s ID %q has %d characters (allowed: %d to 64 lower-case hex digits)", kind, id, len(id), minID)
	}
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("%s ID %q is not lower-case hex", kind, id)
		}
	}
	return nil
}

// ShortID is the part of an ID that people are shown, as Docker does.
func ShortID(id string) string { return id[:min(minID, len(id))] }

// Subnet is one pool as a network uses it. A front end fills Prefix and Gateway;
// the engine adds where the prefix came from.
type Subnet struct {
	Prefix  netip.Prefix `json:"prefix"`            // what the container engine knows it by
	Gateway netip.Addr   `json:"gateway"`           // the bridge's own address; zero: none
	Aux     []netip.Addr `json:"aux,omitempty"`     // addresses that the user keeps for other things
	Source  Source       `json:"source,omitempty"`  // where it came from
	Reason  string       `json:"reason,omitempty"`  // why it was chosen, for people
	OnLink  bool         `json:"on_link,omitempty"` // hosts on Parent take its addresses for neighbours
	Parent  string       `json:"parent,omitempty"`  // the link it is on, where OnLink
	// ParentNamed says that the user has named the link by --ipam-opt parent (Pool.ParentNamed).
	ParentNamed bool `json:"parent_named,omitempty"`

	// What the prefix is outside (RFC 6296), and whether hosts on the parent take
	// that for their neighbours'.
	Outside       netip.Prefix `json:"outside,omitzero"`
	OutsideOnLink bool         `json:"outside_on_link,omitempty"` // whether it is on-link at the parent

	// Of networks on a parent, without a bridge.
	Router netip.Addr `json:"router,omitzero"` // the upstream router that the user named; zero: found out
	Host   netip.Addr `json:"host,omitzero"`   // the host's own address, with host_access
	// Routers are those of Prefix that were known when the network was made. After
	// a boot they may not be known yet, and are no container's all the same.
	Routers []netip.Addr `json:"routers,omitempty"`

	// Lent says what a subnet follows whose prefix a source lends; nil: it has Prefix
	// for as long as the network lives.
	Lent *Lent `json:"lent,omitempty"`
}

// Link is the one that the subnet is bound to; empty: none.
func (s Subnet) Link() string { return boundTo(s.Lent, s.OnLink, s.Parent) }

// On is the subnet when its link is called otherwise.
func (s Subnet) On(link string) Subnet {
	s.Lent, s.Parent = on(link, s.Lent, s.OnLink, s.Parent)
	return s
}

// Phase says how far an operation on a journaled object had come, so that a
// start after a crash knows whether to finish it or to take it back.
type Phase string

// The phases of a network or endpoint.
const (
	PhaseCreating Phase = "creating" // the front end has no answer yet: take it back
	PhaseReady    Phase = "ready"
	PhaseDeleting Phase = "deleting" // finish it
)

// Network is what a front end asked for.
type Network struct {
	ID       string   `json:"id"`             // the container engine's
	Phase    Phase    `json:"phase"`          // ready; creating and deleting are what a crash or a failure has left
	Options  Options  `json:"options"`        // as they were asked for, defaults filled in
	Internal bool     `json:"internal"`       // no way to or from outside the host
	IPv4     []Subnet `json:"ipv4,omitempty"` // its IPv4 subnets
	IPv6     []Subnet `json:"ipv6,omitempty"` // its IPv6 subnets

	// Of a front end that asks by NetworkRequest.
	Name     string `json:"name,omitempty"`
	FrontEnd string `json:"front_end,omitempty"` // who asked for it: empty for Docker, netavark for Podman
	Names    bool   `json:"names,omitempty"`     // a name server answers containers on the bridge
}

// Validate checks a network as it came from a front end.
func (n Network) Validate() error {
	if err := CheckID("network", n.ID); err != nil {
		return err
	}
	if len(n.IPv6) == 0 {
		return fmt.Errorf("the network has no IPv6 subnet: create it with --ipv6, and with --ipam-driver v6net to have a prefix found")
	}
	for _, s := range n.Subnets() {
		if s.Gateway.IsValid() && !s.Prefix.Contains(s.Gateway) {
			return fmt.Errorf("gateway %s is outside subnet %s", s.Gateway, s.Prefix)
		}
	}
	for _, s := range n.IPv6 {
		if s.Prefix.Bits() < MinPoolBits6 || s.Prefix.Bits() > MaxPoolBits6 {
			return fmt.Errorf("subnet %s: prefix length %d cannot work on a container network (allowed: %d to %d; RAs and SLAAC need 64)", s.Prefix, s.Prefix.Bits(), MinPoolBits6, MaxPoolBits6)
		}
	}
	if n.Options.OnParent() {
		return n.validateMode() // the rest is settled
	}
	if err := n.validateInternal(); err != nil {
		return err
	}
	if err := n.validateOutbound(); err != nil {
		return err
	}
	return n.validateRA()
}

// validateOutbound checks under which addresses containers are to leave.
func (n Network) validateOutbound() error {
	o := n.Options
	if o.Host4.IsValid() && (len(n.IPv4) == 0 || n.Internal || !n.MasqueradesIPv4()) {
		return fmt.Errorf("option com.docker.network.host_ipv4=%s: containers do not leave under an IPv4 address of the host's", o.Host4)
	}
	if o.Host6.IsValid() && (n.Internal || !slices.ContainsFunc(n.IPv6, n.MasqueradesIPv6)) {
		return fmt.Errorf("option com.docker.network.host_ipv6=%s: containers do not leave under an IPv6 address of the host's (masquerade=on)", o.Host6)
	}
	if o.Masquerade != SwitchNPTv6 {
		return nil
	}
	switch t := (Translation{n.IPv6[0].Prefix, o.NPTv6}); {
	case len(n.IPv6) > 1:
		return fmt.Errorf("option masquerade=nptv6: the network has %d IPv6 subnets (allowed: one)", len(n.IPv6))
	case o.Advertise.Autonomous:
		return fmt.Errorf("option masquerade=nptv6: addresses that hosts make themselves (ra.autonomous=on) are not translated")
	default:
		if err := t.Validate(); err != nil {
			return fmt.Errorf("option nptv6=%s: %w", o.NPTv6, err)
		}
	}
	return nil
}

// Translation is that of the network's addresses; the zero one: none.
func (n Network) Translation() Translation {
	if len(n.IPv6) == 0 || !n.IPv6[0].Outside.IsValid() {
		return Translation{}
	}
	return Translation{n.IPv6[0].Prefix, n.IPv6[0].Outside}
}

// FromOutside is the subnet as whoever is not on the network knows it.
func (s Subnet) FromOutside() Subnet {
	if s.Outside.IsValid() {
		s.Prefix, s.OnLink = s.Outside, s.OutsideOnLink
	}
	return s
}

// Public is the address by which one of the network's is known outside.
func (n Network) Public(a netip.Addr) netip.Addr {
	if out, ok := n.Translation().Out(a); ok {
		return out
	}
	return a
}

// validateInternal refuses what an internal network cannot keep: nothing is
// forwarded to or from it, whatever its options say.
func (n Network) validateInternal() error {
	o := n.Options
	switch {
	case !n.Internal && (o.GatewayMode4 == GatewayIsolated || o.GatewayMode6 == GatewayIsolated):
		return fmt.Errorf("option com.docker.network.bridge.gateway_mode_ipv4 or _ipv6=isolated: only an internal network is cut off from its host (create it with --internal)")
	case !n.Internal:
		return nil
	case o.GatewayMode4 == GatewayUnprotected:
		return fmt.Errorf("option com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected: an internal network is not reached from outside")
	case o.GatewayMode6 == GatewayIsolated && (o.RA == SwitchOn || o.Advertise.Autonomous):
		return fmt.Errorf("option ra: with com.docker.network.bridge.gateway_mode_ipv6=isolated the host has no address on the bridge and advertises nothing")
	case o.Inbound == InboundOpen:
		return fmt.Errorf("option inbound=open: an internal network is not reached from outside")
	case o.Masquerade == SwitchNPTv6:
		return fmt.Errorf("option masquerade=nptv6: nothing leaves an internal network")
	case o.Masquerade == SwitchOn:
		return fmt.Errorf("option masquerade=on (or com.docker.network.bridge.gateway_mode_ipv6=nat): nothing leaves an internal network")
	case o.NDProxy == SwitchOn || o.NDProxy == SwitchPrefix:
		return fmt.Errorf("option ndproxy=%s: an internal network is not reached from the parent", o.NDProxy)
	case !o.Isolate:
		return fmt.Errorf("option isolate=off: an internal network does not reach others")
	}
	return nil
}

// Subnets are all of the network's, IPv6 first.
func (n Network) Subnets() []Subnet { return append(append([]Subnet(nil), n.IPv6...), n.IPv4...) }

// Bridge is the name of the network's bridge; empty in the modes without one.
func (n Network) Bridge() string {
	if n.Options.OnParent() {
		return ""
	}
	if n.Options.BridgeName != "" {
		return n.Options.BridgeName
	}
	return BridgeName(n.ID)
}

// Isolated reports whether the network has nothing to do with its host in the
// family of an address: not even an address on the bridge.
func (n Network) Isolated(a netip.Addr) bool {
	if a.Is4() {
		return n.Options.GatewayMode4 == GatewayIsolated
	}
	return n.Options.GatewayMode6 == GatewayIsolated
}

// HasGateway reports whether the bridge has a subnet's gateway as an address.
func (n Network) HasGateway(s Subnet) bool {
	return s.Gateway.IsValid() && !n.Isolated(s.Gateway) && !(n.Options.Inhibit4 && s.Gateway.Is4())
}

// MasqueradesIPv6 reports whether traffic of an IPv6 subnet leaves under the
// host's address. Left to us it does for unique local prefixes alone, which
// nobody outside can answer (RFC 4193 §4.3).
func (n Network) MasqueradesIPv6(s Subnet) bool {
	switch n.Options.Masquerade {
	case SwitchOn:
		return true
	case SwitchOff, SwitchNPTv6:
		return false
	default:
		return IsULA(s.Prefix)
	}
}

// MasqueradesIPv4 likewise: Docker's bridge keys decide.
func (n Network) MasqueradesIPv4() bool {
	return n.Options.Masquerade4 && n.Options.GatewayMode4.Translates()
}

// Port is one published port.
type Port struct {
	Protocol string     `json:"protocol"`            // tcp, udp or sctp
	Port     uint16     `json:"port"`                // the container's
	HostIP   netip.Addr `json:"host_ip"`             // zero or unspecified: every address of the host
	HostPort uint16     `json:"host_port,omitempty"` // 0: v6net picks one where one is needed
	HostEnd  uint16     `json:"host_end,omitempty"`  // last of the range to pick from; 0: HostPort itself
	Family   Family     `json:"family,omitempty"`    // only the container's address of this one; 0: both
}

// Family is an address family, by its IP version.
type Family uint8

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Has reports whether an address is of the family; the zero Family has all.
func (f Family) Has(a netip.Addr) bool { return f == 0 || (f == IPv4) == a.Is4() }

// Endpoint is one container's attachment to a network.
type Endpoint struct {
	ID        string       `json:"id"`                // the container engine's
	Phase     Phase        `json:"phase"`             // as a network's
	NetworkID string       `json:"network_id"`        // of its network
	MAC       string       `json:"mac"`               // colon-separated hex
	IPv4      netip.Prefix `json:"ipv4"`              // address with its pool's length; zero: none
	IPv6      netip.Prefix `json:"ipv6"`              // likewise
	Sandbox   string       `json:"sandbox,omitempty"` // the file of its container's network namespace
	Joined    bool         `json:"joined"`            // whether a container has it
	Ports     []Port       `json:"ports,omitempty"`   // published while the endpoint is the container's gateway
	// Asked are the ports that Ports has come of, as they were asked for: which host
	// ports there is need of changes with the network's prefix.
	Asked []Port `json:"asked,omitempty"`

	// Of a front end that asks by AttachRequest.
	Container string `json:"container,omitempty"`
	Name      string `json:"name,omitempty"`      // the container's name, where its engine tells it
	Interface string `json:"interface,omitempty"` // its name in the container, where the engine says it
	Rank      int    `json:"rank,omitempty"`      // among the container's networks; the first has its default route
	Wanted    []Port `json:"wanted,omitempty"`    // to be published while this is the container's first network

	// Of networks on a parent: no advertisement gets to the container's link,
	// since the engine sets its IPv6 default route, with this next hop.
	Guarded  bool       `json:"guarded,omitempty"`
	NextHop6 netip.Addr `json:"next_hop6,omitzero"` // of its default route, where the parent's router is that

	// Of subnets that follow a source. Home is IPv6 by the prefix that the pool is
	// known by; zero: IPv6 is of that. Held are the addresses that the container's
	// link has, or was about to be given; nil: IPv6.
	Home netip.Addr       `json:"home,omitzero"`
	Held []SandboxAddress `json:"held,omitzero"` // addresses of its link while its network is renumbered
}

// Leases are the endpoint's addresses as their pools know them, with the pools'
// lengths, IPv6 first; one that it does not have is the zero Prefix.
func (e Endpoint) Leases() [2]netip.Prefix {
	home := e.IPv6
	if e.Home.IsValid() {
		home = netip.PrefixFrom(e.Home, e.IPv6.Bits())
	}
	return [2]netip.Prefix{home, e.IPv4}
}

// Addresses are the endpoint's own, IPv6 first.
func (e Endpoint) Addresses() []netip.Addr {
	var out []netip.Addr
	for _, p := range []netip.Prefix{e.IPv6, e.IPv4} {
		if p.IsValid() {
			out = append(out, p.Addr())
		}
	}
	return out
}

// Attachment is what a container runtime needs to finish an endpoint.
type Attachment struct {
	Interface string     `json:"interface"` // name of the link to move into the sandbox
	Prefix    string     `json:"prefix"`    // the engine names it PREFIX0, PREFIX1, …
	Gateway4  netip.Addr `json:"gateway4"`  // zero: none
	Gateway6  netip.Addr `json:"gateway6"`  // zero: none
	// Routes are destinations on the link itself that the addresses' prefixes do not say.
	Routes []netip.Prefix `json:"routes,omitempty"`
}
