package prefix

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

// Claim is one network's on what a source lends.
type Claim struct {
	Key   string       // tells the claims apart, and stays
	Bits  int          // length of the part
	Index uint64       // of the part that it had last, counted in parts of that length
	Has   netip.Prefix // that part, if it is still to be had; zero: none
	// Own are prefixes that no other network is given: the one by which container
	// engines know the network, though it may have nothing to do with what is lent
	// now, and those that its containers have yet.
	Own []netip.Prefix
}

// Assigned is what a claim has got.
type Assigned struct {
	Part  netip.Prefix
	Of    spec.Delegation
	Index uint64
}

// ErrNothingLent is why there is no part.
var ErrNothingLent = fmt.Errorf("nothing is lent: %w", ipam.ErrExhausted)

// Assign divides what is lent, the best delegation first, among claims: each keeps
// the part that it has; else it gets the part of its index of the first delegation
// that has one to give; else the first free one. So a network's part depends on its
// own record, and on another's only where two have the same index: the delegations
// that they had were two, and are one now. taken are prefixes that none may overlap.
//
// The error of a claim for which nothing is left wraps ipam.ErrExhausted, and that of all
// where nothing is lent ErrNothingLent.
func Assign(lent []spec.Delegation, claims []Claim, taken []netip.Prefix) (map[string]Assigned, map[string]error) {
	got, failed := map[string]Assigned{}, map[string]error{}
	claims = slices.SortedFunc(slices.Values(claims), func(a, b Claim) int { return cmp.Compare(a.Key, b.Key) })
	var given []netip.Prefix
	give := func(c Claim, p netip.Prefix, d spec.Delegation) {
		got[c.Key] = Assigned{Part: p, Of: d, Index: ipam.Number(d.Prefix, p)}
		given = append(given, p)
	}
	used := func(c Claim) []netip.Prefix {
		all := append(slices.Clone(taken), given...)
		for _, other := range claims {
			if other.Key != c.Key {
				all = append(all, other.Own...)
			}
		}
		return all
	}
	isFree := func(c Claim, p netip.Prefix) bool {
		return !slices.ContainsFunc(used(c), p.Overlaps)
	}
	waiting := func(round func(Claim)) {
		for _, c := range claims {
			if _, done := got[c.Key]; !done {
				round(c)
			}
		}
	}
	waiting(func(c Claim) {
		for _, d := range lent {
			if c.Has.IsValid() && c.Has.Bits() >= d.Prefix.Bits() && d.Prefix.Overlaps(c.Has) && !slices.ContainsFunc(given, c.Has.Overlaps) {
				give(c, c.Has, d)
				return
			}
		}
	})
	waiting(func(c Claim) {
		for _, d := range lent {
			if p, ok := ipam.Part(d.Prefix, c.Bits, c.Index); ok && isFree(c, p) {
				give(c, p, d)
				return
			}
		}
	})
	waiting(func(c Claim) {
		why := ErrNothingLent
		for i, d := range lent {
			if c.Bits < d.Prefix.Bits() {
				if i == 0 {
					why = fmt.Errorf("a /%d is not a part of %s, which is lent: %w", c.Bits, d.Prefix, ipam.ErrExhausted)
				}
				continue
			}
			p, err := ipam.Carve(d.Prefix, c.Bits, used(c), 0)
			if err == nil {
				give(c, p, d)
				return
			}
			why = err
		}
		failed[c.Key] = why
	})
	return got, failed
}
