package pd

import (
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/iana"

	"github.com/v6net/v6net/internal/spec"
)

// empty reports whether nothing is lent.
func (c *Client) empty() bool {
	return !slices.ContainsFunc(c.lease.Associations, func(a spec.Association) bool { return len(a.Delegations) > 0 })
}

// forget ends the lease.
func (c *Client) forget() {
	for i := range c.lease.Associations {
		c.lease.Associations[i] = spec.Association{ID: c.lease.Associations[i].ID}
	}
	c.lease.Server = nil
}

// bind is a Reply to a Request, or to a Solicit by rapid commit: a new lease.
// Prefixes of before that it does not name are no longer the server's to route: they
// are deprecated, and the server takes them back at the next Renew.
func (c *Client) bind(a answer, now time.Time) bool {
	if !a.status.ok() || a.live(c.config.IAID) == 0 {
		return false
	}
	for i := range c.lease.Associations {
		g, ok := a.granted(c.lease.Associations[i].ID)
		for j := range c.lease.Associations[i].Delegations {
			d := &c.lease.Associations[i].Delegations[j]
			if !ok || !slices.ContainsFunc(g.prefixes, func(l lent) bool { return l.prefix == d.Prefix }) {
				if d.Preferred.IsZero() || d.Preferred.After(now) {
					d.Preferred = now
				}
			}
		}
	}
	c.confirm(a, now)
	return true
}

// extend is a Reply to a Renew or Rebind; it reports whether that says anything of
// what is lent, or lends more.
func (c *Client) extend(a answer, now time.Time) bool {
	if !a.status.ok() {
		return false
	}
	said := false
	for _, id := range c.config.IAID {
		g, ok := a.granted(id)
		said = said || ok && g.status.ok() && len(g.prefixes) > 0
	}
	if said {
		c.confirm(a, now)
	}
	return said
}

// unknownTo reports whether a server says that it has no record of the lease.
func (c *Client) unknownTo(a answer) bool {
	if a.status.code == iana.StatusNoBinding {
		return true
	}
	return slices.ContainsFunc(a.pds, func(g granted) bool {
		return g.status.code == iana.StatusNoBinding && slices.Contains(c.config.IAID, g.id)
	})
}

// transient reports whether a refusal may be otherwise at the next try.
func (a *answer) transient() bool {
	return a.status.code == iana.StatusUnspecFail || a.status.code == iana.StatusUseMulticast
}

// confirm takes over what a server says of every association; what it does not say
// anything of stays as it is, and is asked for again, but not at once (§18.2.10.1).
func (c *Client) confirm(a answer, now time.Time) {
	c.lease.Server, c.lease.Boot = a.server, c.config.Boot
	for i := range c.lease.Associations {
		at := &c.lease.Associations[i]
		g, ok := a.granted(at.ID)
		if !ok || !g.status.ok() || len(g.prefixes) == 0 {
			putOff(at, now.Add(pauseOf(at.Delegations, now)))
			continue
		}
		for _, l := range g.prefixes {
			c.grant(at, l, now)
		}
		at.Renew, at.Rebind = times(g, at.Delegations, now)
	}
	c.said.Error = ""
	c.calm = true
}

// grant gives a prefix its lifetimes. One whose valid lifetime is zero ends
// (§18.2.10.1).
func (c *Client) grant(at *spec.Association, l lent, now time.Time) {
	i := slices.IndexFunc(at.Delegations, func(d spec.Delegation) bool { return d.Prefix == l.prefix })
	if l.valid == 0 {
		if i >= 0 {
			at.Delegations = slices.Delete(at.Delegations, i, i+1)
		}
		return
	}
	if i < 0 {
		c.makeRoom(at, l.prefix)
		i = len(at.Delegations)
		at.Delegations = append(at.Delegations, spec.Delegation{Source: spec.SourcePD, Parent: c.config.Link, Prefix: l.prefix})
	}
	d := &at.Delegations[i]
	d.Preferred, d.Valid = until(now, l.preferred), until(now, l.valid)
	d.Origin = serverName(c.lease.Server)
}

// makeRoom ends what a new prefix takes the place of: those that it overlaps, which
// no server means to lend beside it, and the oldest of too many.
func (c *Client) makeRoom(at *spec.Association, p netip.Prefix) {
	for i := range c.lease.Associations {
		a := &c.lease.Associations[i]
		a.Delegations = slices.DeleteFunc(a.Delegations, func(d spec.Delegation) bool { return d.Prefix.Overlaps(p) })
	}
	if n := len(at.Delegations); n >= mostPrefixes {
		at.Delegations = slices.Delete(at.Delegations, 0, n-mostPrefixes+1)
	}
}

// until is the end of a lifetime; zero: never.
func until(now time.Time, d time.Duration) time.Time {
	if d >= forever {
		return time.Time{}
	}
	return now.Add(d)
}

// A server may ask to be asked again after a hundredth of what it lends, as far as that is
// between these.
const (
	leastRenew     = time.Second
	mostLeastRenew = 30 * time.Second
)

// times are when to renew and to rebind: T1 and T2 as the server says, or, where it
// leaves them to the client, the half and four fifths of the shortest preferred
// lifetime (§14.2, §21.21). Whatever it says, some time has to be left.
func times(g granted, delegations []spec.Delegation, now time.Time) (renew, rebind time.Time) {
	preferred, valid := forever, forever
	for _, d := range delegations {
		if !d.Valid.IsZero() {
			valid = min(valid, d.Valid.Sub(now))
		}
		if !d.Preferred.IsZero() && d.Preferred.After(now) {
			preferred = min(preferred, d.Preferred.Sub(now))
		}
	}
	shortest := min(preferred, valid)
	t1, t2 := g.t1, g.t2
	if t2 == 0 {
		t2 = max(t1, scale(shortest, 8))
	}
	if t1 == 0 {
		t1 = min(t2, scale(shortest, 5))
	}
	if valid < forever {
		t2 = min(t2, scale(valid, 8))
		t1 = min(t1, t2)
	}
	t1 = max(t1, leastRenew, min(shortest/100, mostLeastRenew))
	return until(now, t1), until(now, max(t1, t2))
}

// scale is so many tenths of a lifetime, and for ever of one that is.
func scale(d time.Duration, tenths int) time.Duration {
	if d >= forever {
		return forever
	}
	return d / 10 * time.Duration(tenths)
}

// due are when to renew and to rebind. All associations are renewed at once, with
// the first (§18.2.4).
func (c *Client) due() (renew, rebind time.Time) {
	for _, a := range c.lease.Associations {
		if len(a.Delegations) > 0 {
			renew, rebind = earliest(renew, a.Renew), earliest(rebind, a.Rebind)
		}
	}
	return renew, rebind
}

// leastPause is how long servers are left alone who neither know the lease nor lend
// another.
const leastPause = time.Minute

// pauseOf is how long a server is left alone that has confirmed others than these: half
// of the time that is left to them, as RFC 2131 §4.4.5 has it, and no longer than
// between two Renews without an answer.
func pauseOf(delegations []spec.Delegation, now time.Time) time.Duration {
	pause := renewMost
	for _, d := range delegations {
		if !d.Valid.IsZero() {
			pause = min(pause, d.Valid.Sub(now)/2)
		}
	}
	return max(pause, leastPause)
}

// postpone puts off what is due.
func (c *Client) postpone(t time.Time) {
	for i := range c.lease.Associations {
		putOff(&c.lease.Associations[i], t)
	}
}

func putOff(a *spec.Association, t time.Time) {
	for _, due := range []*time.Time{&a.Renew, &a.Rebind} {
		if !due.IsZero() && due.Before(t) {
			*due = t
		}
	}
}

// expiry is when the next valid lifetime ends; zero: never.
func (c *Client) expiry() (t time.Time) {
	for _, d := range c.lease.Delegations() {
		t = earliest(t, d.Valid)
	}
	return t
}

// expire drops prefixes whose valid lifetime is over, and reports whether there were any.
func (c *Client) expire(now time.Time) (any bool) {
	for i := range c.lease.Associations {
		a := &c.lease.Associations[i]
		before := len(a.Delegations)
		a.Delegations = slices.DeleteFunc(a.Delegations, func(d spec.Delegation) bool {
			return !d.Valid.IsZero() && !d.Valid.After(now)
		})
		any = any || len(a.Delegations) < before
	}
	return any
}

// earliest is the first of times; zero is never.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
