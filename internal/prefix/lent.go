package prefix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

const (
	// lentBits is the length of a pool of a delegation that is as short: SLAAC needs it.
	lentBits = 64
	// maxSharedLentBits is the longest delegation of which a pool is a part unasked;
	// a longer one, DigitalOcean's 16 addresses say, is a pool as a whole.
	maxSharedLentBits = 110
)

// answer is what a source has lent, or why it has not.
type answer struct {
	lent []spec.Delegation
	err  error
}

// askAhead asks all sources that lend at the same time: an answer may take seconds,
// and a silent source is known by that alone.
func (c *choice) askAhead(ctx context.Context) {
	link, err := c.link(ctx)
	if err != nil || link == "" {
		return
	}
	sources := []spec.Source{spec.SourcePD, spec.SourceCloud}
	answers := make([]answer, len(sources))
	var asking sync.WaitGroup
	for i, s := range sources {
		asking.Go(func() { answers[i].lent, answers[i].err = c.host.Delegated(ctx, s, link) })
	}
	asking.Wait()
	c.asked = map[spec.Source]answer{}
	for i, s := range sources {
		c.asked[s] = answers[i]
	}
}

// lent takes a free part of what a source has lent.
func (c *choice) lent(source spec.Source) finder {
	return func(ctx context.Context) (spec.Pool, error) {
		link, err := c.link(ctx)
		if err != nil {
			return spec.Pool{}, err
		}
		if link == "" {
			if c.req.Source == spec.SourceAuto {
				return spec.Pool{}, none("%w", spec.ErrNotAvailable) // the source after it says so
			}
			return spec.Pool{}, none("source=%s: no IPv6 default route and no parent named", source)
		}
		got, known := c.asked[source]
		if !known {
			got.lent, got.err = c.host.Delegated(ctx, source, link)
		}
		if err := ctx.Err(); err != nil {
			return spec.Pool{}, err
		}
		if got.err != nil {
			if strings.HasPrefix(got.err.Error(), "source=") {
				return spec.Pool{}, none("%w", got.err)
			}
			return spec.Pool{}, none("source=%s: %w", source, got.err)
		}
		var why error
		for _, d := range Usable(got.lent, c.host.Now()) {
			p, err := c.partOf(d)
			if err == nil {
				return c.lentPool(p, d, link), nil
			}
			why = cmp.Or(why, err)
		}
		if why == nil {
			why = none("source=%s: nothing is lent on %s now", source, link)
		}
		return spec.Pool{}, why
	}
}

// Usable are the delegations in which connections may begin, the best first: one
// that leads to the Internet before a unique local one, then the one that lasts
// longest, of equal ones that which is routed, and then the larger one.
func Usable(lent []spec.Delegation, now time.Time) []spec.Delegation {
	usable := slices.DeleteFunc(slices.Clone(lent), func(d spec.Delegation) bool {
		return !d.Prefix.IsValid() || !d.Prefix.Addr().Is6() || !d.Preferred.IsZero() && !now.Before(d.Preferred) || !d.Valid.IsZero() && !now.Before(d.Valid)
	})
	lasts := func(d spec.Delegation) time.Time {
		if d.Preferred.IsZero() {
			return now.AddDate(1000, 0, 0)
		}
		return d.Preferred.Truncate(time.Minute) // those of one answer last equally long
	}
	slices.SortStableFunc(usable, func(a, b spec.Delegation) int {
		onLink := 0
		if a.OnLink != b.OnLink {
			onLink = 1
			if b.OnLink {
				onLink = -1
			}
		}
		local := 0
		if spec.IsULA(a.Prefix) != spec.IsULA(b.Prefix) {
			local = -1
			if spec.IsULA(a.Prefix) {
				local = 1
			}
		}
		return cmp.Or(local, lasts(b).Compare(lasts(a)), onLink, cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	return usable
}

// partOf finds a free part of a delegation.
func (c *choice) partOf(d spec.Delegation) (netip.Prefix, error) {
	from := d.Prefix.Masked()
	lengths := []int{c.req.Bits}
	if c.req.Bits == 0 {
		lengths = poolBits(d)
	}
	var why error
	for _, bits := range lengths {
		if bits < from.Bits() || bits > spec.MaxPoolBits6 {
			return netip.Prefix{}, none("prefix_length %d is not a part of %s, which is lent on %s (allowed: %d to %d)", bits, from, d.Parent, max(from.Bits(), spec.MinPoolBits6), spec.MaxPoolBits6)
		}
		p, err := c.carve(from, bits, from.Bits()+1, nil, 0)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, ipam.ErrExhausted) {
			return netip.Prefix{}, err
		}
		why = cmp.Or(why, none("%w (lent on %s; networks that are to share it need a larger --ipam-opt prefix_length)", err, d.Parent))
	}
	return netip.Prefix{}, why
}

// poolBits are the lengths that a pool of a delegation may have unasked, the best
// first. One that is on-link is shared like the parent's own: this host has an
// address in it, too, as it may have in a /64 that is routed to it.
func poolBits(d spec.Delegation) []int {
	bits := d.Prefix.Bits()
	part := min(max(bits+partBits, minPartBits), spec.MaxPoolBits6)
	switch {
	case bits > maxSharedLentBits:
		return []int{bits}
	case bits > lentBits || d.OnLink:
		return []int{part}
	default:
		return []int{lentBits, part}
	}
}

func (c *choice) lentPool(p netip.Prefix, d spec.Delegation, link string) spec.Pool {
	pool := c.pool(p, d.Source, fmt.Sprintf("part of %s, which is lent on %s by %s", d.Prefix.Masked(), link, d.Origin))
	if d.OnLink {
		pool.OnLink, pool.Parent = true, link
	}
	pool.Lent = &spec.Lent{
		SourceOnLink: spec.SourceOnLink{Source: d.Source, Link: link},
		Index:        ipam.Number(d.Prefix, p),
		Fallback:     c.req.Fallback,
		Prefixes:     []spec.LentPrefix{LentPart(p, d)},
	}
	return pool
}

// LentPart is a part of a delegation, in use.
func LentPart(p netip.Prefix, d spec.Delegation) spec.LentPrefix {
	return spec.LentPrefix{Prefix: p, Of: d.Prefix.Masked(), Origin: d.Origin, OnLink: d.OnLink, Preferred: spec.WholeSeconds(d.Preferred), Valid: spec.WholeSeconds(d.Valid)}
}
