package spec

import (
	"net/netip"
	"slices"
	"time"
)

// Fallback is what a subnet has while its source lends nothing.
type Fallback string

// The fallbacks. The zero value is none.
const (
	FallbackNone Fallback = "none"
	FallbackULA  Fallback = "ula"
)

// Lent says how a pool or subnet follows what a source lends. Container engines
// know it for good by the first prefix that it had (Pool.Prefix, Subnet.Prefix);
// an address keeps its host part in each prefix. It is never changed in place.
type Lent struct {
	SourceOnLink
	// Index is which part of a delegation it is, counted in parts of its size: the
	// same of the next delegation.
	Index    uint64   `json:"index"`
	Fallback Fallback `json:"fallback,omitempty"` // none or ula: what the network has while nothing is lent
	// ULA is the fallback's prefix, once there was need of one.
	ULA netip.Prefix `json:"ula,omitzero"`
	// Prefixes are those that it has now, the one in use first; none: it has lost all.
	Prefixes []LentPrefix `json:"prefixes,omitempty"`
}

// LentPrefix is a prefix of a subnet that follows a source.
type LentPrefix struct {
	Prefix netip.Prefix `json:"prefix"`            // the network's part
	Of     netip.Prefix `json:"of,omitzero"`       // the delegation; zero: the fallback, which nobody lends
	Origin string       `json:"origin,omitempty"`  // who lent it, for people
	OnLink bool         `json:"on_link,omitempty"` // as Delegation.OnLink
	// Former says that it is not in use any more: addresses in it are deprecated
	// (RFC 4862 §5.5.4) and go with its valid lifetime.
	Former bool `json:"former,omitempty"`
	// As Delegation's. Of a former one Preferred is of no use.
	Preferred time.Time `json:"preferred,omitzero"`
	Valid     time.Time `json:"valid,omitzero"` // until when it may be used
}

// IsFormer is Former.
func (p LentPrefix) IsFormer() bool { return p.Former }

// Current is the prefix that is in use, and whether there is one.
func (l Lent) Current() (LentPrefix, bool) {
	if len(l.Prefixes) == 0 || l.Prefixes[0].Former {
		return LentPrefix{}, false
	}
	return l.Prefixes[0], true
}

// Uses reports whether that is the prefix in use.
func (l Lent) Uses(p netip.Prefix) bool {
	now, inUse := l.Current()
	return inUse && now.Prefix == p
}

// Has reports whether an address is in a prefix that the subnet has now.
func (l Lent) Has(a netip.Addr) bool {
	return slices.ContainsFunc(l.Prefixes, func(p LentPrefix) bool { return p.Prefix.Contains(a) })
}

// Renumbered is the address with its host part in another prefix. The prefix is as
// long as the one that the address was of.
func Renumbered(a netip.Addr, p netip.Prefix) netip.Addr {
	if !a.Is6() || !p.IsValid() || !p.Addr().Is6() {
		return a
	}
	from, to, bits := a.As16(), p.Masked().Addr().As16(), p.Bits()
	for i := range to {
		switch {
		case bits >= 8*(i+1):
		case bits <= 8*i:
			to[i] = from[i]
		default:
			host := byte(0xff) >> (bits - 8*i)
			to[i] |= from[i] & host
		}
	}
	return netip.AddrFrom16(to)
}

// Present are a network's IPv6 subnets as they are now: one that follows a source
// once for each prefix that it has, with its own addresses in that. Lent is then
// the one prefix alone.
func (n Network) Present() []Subnet {
	var present []Subnet
	for _, s := range n.IPv6 {
		if s.Lent == nil {
			present = append(present, s)
			continue
		}
		for _, p := range s.Lent.Prefixes {
			present = append(present, s.in(p))
		}
	}
	return present
}

// in is a subnet that follows a source in one of its prefixes.
func (s Subnet) in(p LentPrefix) Subnet {
	moved := s
	moved.Prefix, moved.OnLink, moved.Parent = p.Prefix, p.OnLink, ""
	if p.OnLink {
		moved.Parent = s.Lent.Link
	}
	if s.Gateway.IsValid() {
		moved.Gateway = Renumbered(s.Gateway, p.Prefix)
	}
	if s.Host.IsValid() {
		moved.Host = Renumbered(s.Host, p.Prefix)
	}
	moved.Aux = slices.Clone(s.Aux)
	for i, a := range moved.Aux {
		moved.Aux[i] = Renumbered(a, p.Prefix)
	}
	lent := *s.Lent
	lent.Prefixes = []LentPrefix{p}
	moved.Lent = &lent
	return moved
}

// PresentSubnets are Present and the IPv4 subnets.
func (n Network) PresentSubnets() []Subnet { return append(n.Present(), n.IPv4...) }

// SubnetOf is the IPv6 subnet that an endpoint's address is of.
func (n Network) SubnetOf(ep Endpoint) (Subnet, bool) {
	for _, s := range n.IPv6 {
		if s.Prefix.Contains(ep.Leases()[0].Addr()) {
			return s, true
		}
	}
	return Subnet{}, false
}

// HomeOf is the address by the prefix that container engines know its subnet by:
// that of its lease. Of an address that is in no prefix of the network it is itself.
func (n Network) HomeOf(a netip.Addr) netip.Addr {
	for _, s := range n.IPv6 {
		if s.Lent != nil && !s.Prefix.Contains(a) && s.Lent.Has(a) {
			return Renumbered(a, s.Prefix)
		}
	}
	return a
}

// AddressesOf are the endpoint's own now, IPv6 first, of several the one in use first.
func (n Network) AddressesOf(ep Endpoint) []netip.Addr {
	s, known := n.SubnetOf(ep)
	if !ep.IPv6.IsValid() || !known || s.Lent == nil {
		return ep.Addresses()
	}
	var addrs []netip.Addr
	for _, a := range s.Lent.AddressesFor(ep) {
		addrs = append(addrs, a.Prefix.Addr())
	}
	if ep.IPv4.IsValid() {
		addrs = append(addrs, ep.IPv4.Addr())
	}
	return addrs
}

// HasOf are those of AddressesOf that the container's link has. They are fewer while a
// network is renumbered, and where a container cannot be entered.
func (n Network) HasOf(ep Endpoint) []netip.Addr {
	return slices.DeleteFunc(n.AddressesOf(ep), func(a netip.Addr) bool {
		return a.Is6() && !slices.ContainsFunc(ep.Holding(), func(h SandboxAddress) bool { return !h.Pending && h.Prefix.Addr() == a })
	})
}

// AddressesFor are those that an endpoint's link is to have of a subnet: one in the
// prefix that is in use, and what it has yet of former ones. The one in use has no
// lifetime there, as container engines set it: when a delegation is renewed, nothing
// is to be done in any container. It gets one when it is not in use any more, with
// which it goes by itself, whether a daemon runs or not.
func (l Lent) AddressesFor(ep Endpoint) []SandboxAddress {
	var want []SandboxAddress
	for _, p := range l.Prefixes {
		a := SandboxAddress{Prefix: netip.PrefixFrom(Renumbered(ep.IPv6.Addr(), p.Prefix), p.Prefix.Bits())}
		if p.Former {
			a.Former, a.Valid = true, p.Valid
			if !slices.ContainsFunc(ep.Holding(), func(h SandboxAddress) bool { return h.Prefix == a.Prefix }) {
				continue // the endpoint is younger
			}
		}
		want = append(want, a)
	}
	return want
}

// Holding are the IPv6 addresses that the container's link has, or was about to be given.
func (e Endpoint) Holding() []SandboxAddress {
	if e.Held == nil {
		return []SandboxAddress{{Prefix: e.IPv6}}
	}
	return e.Held
}

// SandboxAddress is an address of a container's link.
type SandboxAddress struct {
	Prefix netip.Prefix `json:"prefix"` // the address with its prefix's length
	// Former says that it is deprecated, and Valid until when it is there; zero: for ever.
	Former bool      `json:"former,omitempty"`
	Valid  time.Time `json:"valid,omitzero"` // until when; none: for as long as its prefix is
	// Pending says that it was about to be given, and is not known to have been.
	Pending bool `json:"pending,omitempty"`
}
