package engine

import (
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// wallClock is the time where nobody keeps another.
type wallClock struct{}

func (wallClock) Now() time.Time       { return time.Now() }
func (wallClock) Ahead() time.Duration { return 0 }

// leastAhead is how far the wall clock has to be off to be minded: NTP slews it all
// the time.
const leastAhead = time.Second

// inWallTime puts the ends of lifetimes into the time that people have.
func inWallTime(status *spec.Status, ahead time.Duration) {
	if ahead.Abs() < leastAhead {
		return
	}
	put := func(times ...*time.Time) {
		for _, t := range times {
			if !t.IsZero() {
				*t = t.Add(ahead)
			}
		}
	}
	for i := range status.Delegations {
		for j := range status.Delegations[i].Delegations {
			d := &status.Delegations[i].Delegations[j]
			put(&d.Preferred, &d.Valid)
		}
	}
	for i := range status.Networks {
		n := &status.Networks[i]
		n.IPv6 = slices.Clone(n.IPv6)
		for j, s := range n.IPv6 {
			if s.Lent == nil {
				continue
			}
			lent := *s.Lent // which is never changed in place
			lent.Prefixes = slices.Clone(lent.Prefixes)
			for k := range lent.Prefixes {
				put(&lent.Prefixes[k].Preferred, &lent.Prefixes[k].Valid)
			}
			n.IPv6[j].Lent = &lent
		}
		for j := range n.Endpoints {
			ep := &n.Endpoints[j]
			ep.Held = slices.Clone(ep.Held)
			for k := range ep.Held {
				put(&ep.Held[k].Valid)
			}
		}
	}
}
