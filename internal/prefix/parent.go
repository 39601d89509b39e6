package prefix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

const (
	// A part is a 65536th of the on-link prefix, the usual /64's being a /80, and
	// not more than a /80: it has room for as many containers as there are MACs.
	partBits    = 16
	minPartBits = 80
	// ProbeTries is in how many parts a neighbour may be found before we give up;
	// a probe takes a second and the container engine waits.
	ProbeTries = 4
	// probeAddrs is how many of a part's first addresses are probed: the gateway
	// and what people number by hand.
	probeAddrs = 4
)

// parent shares an on-link prefix of the uplink: its hosts take the part's
// addresses for neighbours, so they must be proxied (RFC 4861 §7.2.8).
func (c *choice) parent(ctx context.Context) (spec.Pool, error) {
	link, err := c.link(ctx)
	if err != nil {
		return spec.Pool{}, err
	}
	if link == "" {
		return spec.Pool{}, none("no IPv6 default route and no parent named")
	}
	onLink, err := c.host.OnLink(ctx, link)
	if errors.Is(err, errors.ErrUnsupported) {
		// Probes would tell nothing: the prefix may be all ours, or others' behind the peer.
		return spec.Pool{}, none("no prefix of %s can be shared, since it has no neighbor discovery", link)
	}
	if err != nil {
		return spec.Pool{}, fmt.Errorf("prefixes of parent %s: %w", link, err)
	}
	candidates, err := c.shareable(onLink, link)
	if err != nil {
		return spec.Pool{}, err
	}
	tries := ProbeTries
	var why error
	for _, from := range candidates {
		p, err := c.freePart(ctx, link, from, &tries)
		if err == nil {
			pool := c.pool(p, spec.SourceParent, fmt.Sprintf("free part of %s, the on-link prefix of %s", from, link))
			pool.OnLink, pool.Parent = true, link
			pool.Lent = SharedLent(p, from, link)
			pool.Lent.Fallback = c.req.Fallback
			return pool, nil
		}
		if _, ok := errors.AsType[*unavailable](err); !ok {
			return spec.Pool{}, err
		}
		why = cmp.Or(why, err) // the preferred prefix's
	}
	return spec.Pool{}, why
}

// SharedLent is how a part of a link's own prefix follows that.
func SharedLent(part, from netip.Prefix, link string) *spec.Lent {
	d := spec.Delegation{Source: spec.SourceParent, Parent: link, Prefix: from, OnLink: true, Origin: spec.ParentOrigin}
	return &spec.Lent{
		SourceOnLink: spec.SourceOnLink{Source: spec.SourceParent, Link: link},
		Index:        ipam.Number(from, part),
		Prefixes:     []spec.LentPrefix{LentPart(part, d)},
	}
}

// link is the uplink: the one asked for, or that of the default route, or empty.
func (c *choice) link(ctx context.Context) (string, error) {
	if c.req.Parent != "" {
		return c.req.Parent, nil
	}
	link, err := c.host.DefaultParent(ctx)
	if err != nil {
		return "", ctx.Err() // no default route is no failure
	}
	return link, nil
}

// shareable are the on-link prefixes that a part may be taken of: global ones,
// or unique local ones where the user asked for the parent's and it has no other.
func (c *choice) shareable(onLink []netip.Prefix, link string) ([]netip.Prefix, error) {
	var global, local []netip.Prefix
	long := 0
	for _, p := range onLink {
		p = p.Masked()
		switch {
		case !p.Addr().Is6() || p.Addr().Is4In6() || !p.Addr().IsGlobalUnicast():
		case p.Bits() > spec.MaxSharedBits:
			long++
		case spec.IsULA(p):
			local = append(local, p)
		default:
			global = append(global, p)
		}
	}
	switch {
	case len(global) > 0:
		return global, nil
	case len(local) > 0 && c.req.Source == spec.SourceParent:
		return local, nil
	case long > 0:
		return nil, none("no global on-link prefix on %s that is a /%d or shorter", link, spec.MaxSharedBits)
	default:
		return nil, none("no global prefix on %s", link)
	}
}

// freePart finds a part of an on-link prefix that neither this host nor, as far
// as a probe tells, a neighbour uses. tries counts down the probes.
func (c *choice) freePart(ctx context.Context, link string, from netip.Prefix, tries *int) (netip.Prefix, error) {
	bits := c.req.Bits
	if bits == 0 {
		bits = min(max(from.Bits()+partBits, minPartBits), spec.MaxPoolBits6)
	}
	if bits <= from.Bits() {
		return netip.Prefix{}, none("prefix_length %d is not a part of %s, the on-link prefix of %s (allowed: %d to %d)",
			bits, from, link, from.Bits()+1, spec.MaxPoolBits6)
	}
	avoid := []netip.Prefix{netip.PrefixFrom(from.Addr(), bits)} // people number by hand from the start
	for ; *tries > 0; *tries-- {
		p, err := c.carve(from, bits, from.Bits()+1, avoid, c.seed)
		if errors.Is(err, ipam.ErrExhausted) {
			return netip.Prefix{}, none("%w (on-link prefix of %s)", err, link)
		}
		if err != nil {
			return netip.Prefix{}, err
		}
		neighbours, err := c.host.Probe(ctx, link, FirstAddrs(p))
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("probe %s on %s: %w", p, link, err)
		}
		if len(neighbours) == 0 {
			return p, nil
		}
		avoid = append(avoid, p)
	}
	return netip.Prefix{}, none("neighbours on %s answered in each of %d parts of its prefixes", link, ProbeTries)
}

// FirstAddrs are the first addresses of a prefix that a host may have, as many as are
// probed to find out whether somebody has the prefix.
func FirstAddrs(p netip.Prefix) []netip.Addr {
	var addrs []netip.Addr
	for a := p.Addr().Next(); p.Contains(a) && len(addrs) < probeAddrs; a = a.Next() {
		addrs = append(addrs, a)
	}
	return addrs
}
