package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// Source says where a pool's prefix comes from.
type Source string

// The prefix sources. SourcePrivate is IPv4's only automatic source (RFC 1918).
const (
	SourceAuto    Source = "auto"
	SourceStatic  Source = "static"
	SourceParent  Source = "parent"
	SourcePD      Source = "pd"
	SourceCloud   Source = "cloud"
	SourceULA     Source = "ula"
	SourcePrivate Source = "private"
)

// Allocation is the order in which a pool hands out its addresses.
type Allocation string

// The orders of allocation.
const (
	Sequential Allocation = "sequential"
	Random     Allocation = "random"
)

// Limits of an IPv6 pool's prefix length. A pool is an on-link prefix of the
// containers, and those are at most a /64 (RFC 4291 §2.5.4, RFC 7421); a pool
// longer than /126 has no room for a gateway and a container beside the
// subnet-router anycast address (RFC 4291 §2.6.1).
const (
	MinPoolBits6 = 64
	MaxPoolBits6 = 126
)

// Limits of an IPv4 pool's prefix length: a /30 has room for a gateway and a
// container beside the network's and the broadcast address.
const (
	MinPoolBits4 = 8
	MaxPoolBits4 = 30
)

// PoolRequest asks for a pool: one that the user named, or one that v6net finds.
type PoolRequest struct {
	V6         bool         `json:"v6"`
	Prefix     netip.Prefix `json:"prefix"` // zero: find one
	Range      netip.Prefix `json:"range"`  // --ip-range: allocate only here; zero: the whole prefix
	Source     Source       `json:"source"`
	Parent     string       `json:"parent,omitempty"`        // empty: interface of the IPv6 default route
	Bits       int          `json:"prefix_length,omitempty"` // 0: the source's own
	Allocation Allocation   `json:"allocation"`
	Fallback   Fallback     `json:"fallback,omitempty"` // empty: none
	FrontEnd   string       `json:"-"`                  // as Pool.FrontEnd
}

// Pool is the part of a prefix that one network uses.
type Pool struct {
	ID         string       `json:"id"`               // what the container engine knows it by
	Prefix     netip.Prefix `json:"prefix"`           // all of its addresses
	Range      netip.Prefix `json:"range"`            // zero: the whole prefix
	Allocation Allocation   `json:"allocation"`       // sequential or random
	Source     Source       `json:"source"`           // static, parent, pd, cloud or ula, or private for IPv4
	Reason     string       `json:"reason"`           // why this source, for people
	Parent     string       `json:"parent,omitempty"` // the link of which OnLink speaks
	// ParentNamed says that the user has named the link for this pool: the one of that name is
	// meant, whatever it is, and no link that used to have it.
	ParentNamed bool `json:"parent_named,omitempty"`
	// OnLink says that hosts on the parent link take the pool's addresses for
	// neighbours, so that somebody must answer their solicitations.
	OnLink bool `json:"on_link"`
	// Settled says that a network of another driver is on the pool, as far as can
	// be known, so that it outlives a start with no network of ours on it.
	Settled bool `json:"settled,omitempty"`
	// FrontEnd is the one of NetworkRequest for whose network the pool is, empty for a
	// pool that was asked for by itself. Nobody but that network has a use for it.
	FrontEnd string `json:"front_end,omitempty"`
	// Conflict says what of the host has the prefix, for people. Such a pool is
	// for networks on a parent, whose packets are not the host's to route.
	Conflict string `json:"conflict,omitempty"`
	// Gateway is the one that the user named; zero: none.
	Gateway netip.Addr `json:"gateway,omitzero"`
	// Lent says what a pool follows whose prefix a source lends; nil: none. Once a
	// network is on the pool, that network's subnet is what follows.
	Lent *Lent `json:"lent,omitempty"`
}

// Link is the one that the pool is bound to; empty: none.
func (p Pool) Link() string { return boundTo(p.Lent, p.OnLink, p.Parent) }

// On is the pool when its link is called otherwise.
func (p Pool) On(link string) Pool {
	p.Lent, p.Parent = on(link, p.Lent, p.OnLink, p.Parent)
	return p
}

func boundTo(lent *Lent, onLink bool, parent string) string {
	switch {
	case lent != nil:
		return lent.Link
	case onLink:
		return parent
	}
	return ""
}

func on(link string, lent *Lent, onLink bool, parent string) (*Lent, string) {
	if lent != nil {
		moved := *lent
		moved.Link, lent = link, &moved
	}
	if onLink {
		parent = link
	}
	return lent, parent
}

// ulaRange is RFC 4193 §3.1's fc00::/7.
var ulaRange = netip.MustParsePrefix("fc00::/7")

// IsULA reports whether the prefix is a unique local one (RFC 4193).
func IsULA(p netip.Prefix) bool { return ulaRange.Overlaps(p) && p.Bits() >= ulaRange.Bits() }

// PoolOptions are the keys of `--ipam-opt`.
var PoolOptions = []string{"source", "prefix_length", "allocation", "parent", "fallback"}

// ParsePoolRequest reads what the engine's IPAM call carries: the subnet and
// range as CIDR text (empty: none) and `--ipam-opt` keys. The error is an
// *OptionError, an *UnknownOptionError, or says what is wrong with the subnet.
func ParsePoolRequest(v6 bool, subnet, subRange string, raw map[string]string) (PoolRequest, error) {
	r := PoolRequest{V6: v6, Source: SourceAuto, Allocation: Sequential}
	for _, k := range sortedKeys(raw) {
		if err := r.setOption(k, raw[k]); err != nil {
			return PoolRequest{}, err
		}
	}
	if !v6 {
		// The options are the IPv6 pool's; the engine sends them with the IPv4 request too.
		r.Source, r.Bits, r.Parent, r.Fallback = SourcePrivate, 0, "", ""
	}
	var err error
	if subnet != "" {
		if r.Prefix, err = parseSubnet(subnet, v6); err != nil {
			return PoolRequest{}, err
		}
		if err := r.besideSubnet(); err != nil {
			return PoolRequest{}, err
		}
		r.Source = SourceStatic
	} else if r.Source == SourceStatic {
		return PoolRequest{}, &OptionError{Key: "source", Value: "static", Allowed: "static only together with --subnet"}
	}
	if r.Fallback == FallbackULA && !slices.Contains([]Source{SourceAuto, SourcePD, SourceCloud, SourceParent}, r.Source) {
		return PoolRequest{}, &OptionError{Key: "fallback", Value: string(r.Fallback), Allowed: "none; ula only with source=pd, cloud, parent or auto, whose prefix may be lost"}
	}
	if subRange != "" {
		if r.Range, err = parseSubnet(subRange, v6); err != nil {
			return PoolRequest{}, fmt.Errorf("--ip-range: %w", err)
		}
		if !r.Prefix.IsValid() || r.Range.Bits() < r.Prefix.Bits() || !r.Prefix.Contains(r.Range.Addr()) {
			return PoolRequest{}, fmt.Errorf("--ip-range %s is not inside --subnet %q", r.Range, subnet)
		}
	}
	return r, nil
}

// besideSubnet refuses options about how a prefix is found where one is named.
func (r *PoolRequest) besideSubnet() error {
	only := fmt.Sprintf("leave it out beside --subnet %s, or leave --subnet out to have a prefix found", r.Prefix)
	switch r.Source {
	case SourceAuto, SourceStatic, SourcePrivate:
	default:
		return &OptionError{Key: "source", Value: string(r.Source), Allowed: only}
	}
	if r.Bits != 0 && r.Bits != r.Prefix.Bits() {
		return &OptionError{Key: "prefix_length", Value: strconv.Itoa(r.Bits), Allowed: only}
	}
	return nil
}

func (r *PoolRequest) setOption(key, value string) error {
	switch key {
	case "source":
		return choose(&r.Source, key, value,
			[]Source{SourceAuto, SourceStatic, SourceParent, SourcePD, SourceCloud, SourceULA}, nil)
	case "prefix_length":
		n, err := strconv.Atoi(value)
		if err != nil || n < MinPoolBits6 || n > MaxPoolBits6 {
			return &OptionError{Key: key, Value: value, Allowed: fmt.Sprintf("%d to %d; 64 if containers are to use SLAAC", MinPoolBits6, MaxPoolBits6)}
		}
		r.Bits = n
		return nil
	case "allocation":
		return choose(&r.Allocation, key, value, []Allocation{Sequential, Random}, nil)
	case "parent":
		return interfaceName(&r.Parent, key, value)
	case "fallback":
		return choose(&r.Fallback, key, value, []Fallback{FallbackNone, FallbackULA}, nil)
	default:
		return &UnknownOptionError{Key: key, Known: PoolOptions}
	}
}

// futureUse is IPv4's class E (RFC 1112 §4), with the broadcast address: the kernel takes
// its addresses, and other hosts drop them.
var futureUse = netip.MustParsePrefix("240.0.0.0/4")

// parseSubnet reads a prefix of the asked family that a container network can use.
func parseSubnet(s string, v6 bool) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("subnet %q is not a prefix such as 2001:db8:1::/64", s)
	}
	p = p.Masked()
	switch {
	case p.Addr().Is4In6() || p.Addr().Is6() != v6:
		return netip.Prefix{}, fmt.Errorf("subnet %s is of the other address family", p)
	case p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast() || p.Addr().IsLoopback() || futureUse.Overlaps(p):
		return netip.Prefix{}, fmt.Errorf("subnet %s cannot be used: containers need unicast addresses that are routed", p)
	case v6 && (p.Bits() < MinPoolBits6 || p.Bits() > MaxPoolBits6):
		return netip.Prefix{}, fmt.Errorf("subnet %s: prefix length %d cannot work on a container network (allowed: %d to %d; RAs and SLAAC need 64)", p, p.Bits(), MinPoolBits6, MaxPoolBits6)
	case !v6 && (p.Bits() < MinPoolBits4 || p.Bits() > MaxPoolBits4):
		return netip.Prefix{}, fmt.Errorf("subnet %s: prefix length %d cannot work on a container network (allowed: %d to %d)", p, p.Bits(), MinPoolBits4, MaxPoolBits4)
	}
	return p, nil
}

// Everywhere is the prefix of all addresses of a family, that of a default route: ::/0, or 0.0.0.0/0.
func Everywhere(v6 bool) netip.Prefix {
	if v6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
