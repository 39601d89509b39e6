package onlink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// Config is what a Source is made of.
type Config struct {
	Link string
	// Read is what the link has now, and whether it is up and has a carrier. The error matches
	// fs.ErrNotExist where there is no such link.
	Read func(context.Context) (has []spec.OnLinkPrefix, up bool, err error)
	Now  func() time.Time // that lifetimes are kept by
	// Lease is what the link had before. It holds until the link has another one.
	Lease spec.DelegationLease
}

const (
	// readEvery is how often the link is looked at while it changes: an advertisement of
	// two prefixes is several changes, and some routers advertise all the time.
	readEvery = time.Second
	// readAgain is when it is looked at again that could not be read.
	readAgain = 10 * time.Second
	// absentTime is for how long a prefix has to be away, while the link is up and has another
	// one, before that takes its place: a link that comes up may get them one after the other.
	absentTime = 30 * time.Second
	// routesLinger is for how long a route may be seen when its time is over: the kernel
	// collects those every half a minute (net/ipv6/ip6_fib.c, fib6_run_gc).
	routesLinger = time.Minute
	// mostKnown is how many prefixes a link may have: who sends advertisements there may name
	// any number, and all are written down.
	mostKnown = 16
	// slack is how far a lifetime may be off that the kernel says in whole seconds.
	slack = 2 * time.Second
)

// What [spec.DelegationStatus] says.
const (
	stateNone = "no prefix on the link yet"
	stateHas  = "on the link"
	stateKept = "not on the link now, kept"
	stateLost = "lost"
)

// A Source looks at one link.
type Source struct {
	config Config
	wake   chan struct{}

	// Of Run's goroutine.
	known   []known
	up      bool  // the link was, when it was looked at last
	ever    bool  // there has been a prefix, in this life or before it
	trouble error // why the link could not be read last
}

// known is a prefix that the link has or had.
type known struct {
	lent       spec.Delegation // as it was reported last
	ends       time.Time       // its valid lifetime, as far as the kernel has said; zero: without end
	deprecated bool            // when it was last there
	absent     time.Time       // since when it is not there, while the link was up; zero: it is
}

func (k known) isLocal() bool { return spec.IsULA(k.lent.Prefix) }
func (k known) isFresh(now time.Time) bool {
	return k.absent.IsZero() && !k.deprecated && !k.isOver(now)
}
func (k known) isOver(now time.Time) bool { return !k.ends.IsZero() && !now.Before(k.ends) }

// New makes a Source, which begins with Run.
func New(config Config) *Source {
	s := &Source{config: config, wake: make(chan struct{}, 1)}
	for _, d := range config.Lease.Delegations() {
		s.ever = true
		s.known = append(s.known, known{lent: d, ends: d.Valid, deprecated: !d.Preferred.IsZero()})
	}
	return s
}

// Ask looks at the link at once.
func (s *Source) Ask() {
	select {
	case s.wake <- struct{}{}:
	default: // it is about to be
	}
}

// LinkChanged says that the link came up.
func (s *Source) LinkChanged() { s.Ask() }

// AddressesChanged says that the link has other addresses, or other prefixes.
func (s *Source) AddressesChanged() { s.Ask() }

// Release does nothing: a link's prefix is everybody's on it.
func (s *Source) Release(context.Context) error { return nil }

// Run looks at the link whenever something may have changed, until ctx ends.
func (s *Source) Run(ctx context.Context, report func(spec.DelegationReport)) {
	for {
		next := s.look(ctx)
		if ctx.Err() != nil {
			return
		}
		report(s.report())
		if !pause(ctx, readEvery, nil) || !pause(ctx, max(next-readEvery, 0), s.wake) {
			return
		}
	}
}

// pause waits for a time, or until it is woken, and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-wake:
	}
	return true
}

// report says what is lent. While the link has never had a prefix nothing is answered:
// networks may have been there before the journal of leases, and keep theirs.
func (s *Source) report() spec.DelegationReport {
	said := spec.DelegationReport{State: stateNone, Answered: s.ever, Lease: spec.DelegationLease{
		SourceOnLink: spec.SourceOnLink{Source: spec.SourceParent, Link: s.config.Link},
	}}
	var lent []spec.Delegation
	shared := s.shared()
	for _, k := range shared {
		lent = append(lent, k.lent)
	}
	switch {
	case len(lent) > 0:
		said.State = stateKept
		said.Lease.Associations = []spec.Association{{Delegations: lent}}
		if slices.ContainsFunc(shared, func(k known) bool { return k.absent.IsZero() }) {
			said.State = stateHas
		}
	case s.ever:
		said.State = stateLost
	}
	switch {
	case s.trouble != nil:
		said.Error = s.trouble.Error()
	case said.State == stateKept:
		said.Error = fmt.Sprintf("%s has no such prefix now; networks keep theirs until another one is there, or its time is over", s.config.Link)
	case said.State != stateHas:
		said.Error = "no global on-link prefix on " + s.config.Link
	}
	return said
}

// shared are the prefixes of which networks may have parts: unique local ones only
// where there are no others.
func (s *Source) shared() []known {
	now := s.config.Now()
	there := slices.DeleteFunc(slices.Clone(s.known), func(k known) bool { return k.isOver(now) })
	if global := slices.DeleteFunc(slices.Clone(there), known.isLocal); len(global) > 0 {
		return global
	}
	return there
}

// look takes in what the link has, and says when to look again though nothing changes.
func (s *Source) look(ctx context.Context) time.Duration {
	seen, up, err := s.config.Read(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.trouble = err
		return readAgain
	}
	s.trouble = nil
	now := s.config.Now()
	s.note(seen, now, up && s.up)
	s.up = up
	s.known = slices.DeleteFunc(s.known, func(k known) bool { return k.isOver(now) && !k.absent.IsZero() })
	s.ever = s.ever || len(s.known) > 0
	s.judge(now)
	return s.next(now).Sub(now)
}

// note takes down what is there, and since when what was is not. What is away with the
// link's carrier nobody could say anything of, though what was set by hand may be there yet.
func (s *Source) note(seen []spec.OnLinkPrefix, now time.Time, wasUp bool) {
	for i := range s.known {
		k := &s.known[i]
		at := slices.IndexFunc(seen, func(p spec.OnLinkPrefix) bool { return p.Prefix == k.lent.Prefix })
		switch {
		case at >= 0 && seen[at].ByRoute && !k.isOver(now.Add(-routesLinger)):
			k.absent = time.Time{} // of the rest the last word was its address's
		case at >= 0:
			k.absent, k.deprecated, k.ends = time.Time{}, seen[at].Deprecated, end(now, seen[at].Valid)
		case k.absent.IsZero() || !wasUp:
			k.absent = now
		}
	}
	for _, p := range seen {
		if !spec.IsDelegable(p.Prefix) || p.Prefix.Bits() > spec.MaxSharedBits || slices.ContainsFunc(s.known, func(k known) bool { return k.lent.Prefix == p.Prefix }) {
			continue
		}
		if len(s.known) >= mostKnown && (p.Deprecated || !s.makeRoom(now)) {
			continue
		}
		d := spec.Delegation{Source: spec.SourceParent, Parent: s.config.Link, Prefix: p.Prefix, OnLink: true, Origin: spec.ParentOrigin}
		s.known = append(s.known, known{lent: d, ends: end(now, p.Valid), deprecated: p.Deprecated})
	}
	slices.SortFunc(s.known, func(a, b known) int { return a.lent.Prefix.Compare(b.lent.Prefix) })
}

// makeRoom forgets the prefix that ends first of those in which no connection begins, for one
// in which connections may: a line that redials leaves a deprecated one each time.
func (s *Source) makeRoom(now time.Time) bool {
	first := -1
	for i, k := range s.known {
		if !k.isFresh(now) && (first < 0 || k.endsBefore(s.known[first])) {
			first = i
		}
	}
	if first < 0 {
		return false
	}
	s.known = slices.Delete(s.known, first, first+1)
	return true
}

func (k known) endsBefore(other known) bool {
	return !k.ends.IsZero() && (other.ends.IsZero() || k.ends.Before(other.ends))
}

func end(now time.Time, valid time.Duration) time.Time {
	if valid == 0 {
		return time.Time{}
	}
	return now.Add(valid)
}

// hasFresh reports whether there is a prefix that can take a place of this one.
func (s *Source) hasFresh(instead known, now time.Time) bool {
	return slices.ContainsFunc(s.known, func(k known) bool {
		return k.isFresh(now) && (instead.isLocal() || !k.isLocal())
	})
}

// judge decides which prefixes may be begun with, and until when the others last. One
// that is deprecated, or away, goes on as it was while there is no other.
func (s *Source) judge(now time.Time) {
	for i := range s.known {
		k := &s.known[i]
		switch other := s.hasFresh(*k, now); {
		case k.isFresh(now):
			k.lent.Preferred = time.Time{}
		case !other || !k.lent.Preferred.IsZero():
			// As before.
		case k.deprecated:
			k.lent.Preferred = spec.WholeSeconds(now)
		case now.Sub(k.absent) >= absentTime:
			k.lent.Preferred = spec.WholeSeconds(now)
		}
		if !k.lent.Preferred.IsZero() && !k.absent.IsZero() {
			// Nobody says when it ends any more.
			if limit := k.absent.Add(spec.WithdrawnTime); k.ends.IsZero() || k.ends.After(limit) {
				k.ends = limit
			}
		}
		if k.isOff(now) {
			k.lent.Valid = spec.WholeSeconds(k.ends)
		}
	}
}

// isOff reports whether the end that was reported is to be corrected. One that is put
// off with each advertisement is so when half of the time is over: each correction is
// written down.
func (k known) isOff(now time.Time) bool {
	said := k.lent.Valid
	switch {
	case said.IsZero() || k.ends.IsZero():
		return !said.Equal(k.ends)
	case k.ends.Before(said):
		return said.Sub(k.ends) > slack
	default:
		return k.ends.Sub(said) > slack && !now.Before(k.half())
	}
}

// half is when half of the real lifetime is over by the reported one.
func (k known) half() time.Time { return k.lent.Valid.Add(-k.ends.Sub(k.lent.Valid)) }

// next is when something is due.
func (s *Source) next(now time.Time) time.Time {
	next := now.Add(time.Hour)
	due := func(t time.Time) {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	for _, k := range s.known {
		if !k.ends.IsZero() {
			due(k.ends)
			due(k.half())
			due(k.ends.Add(routesLinger))
		}
		if !k.absent.IsZero() && s.up && s.hasFresh(k, now) {
			due(k.absent.Add(absentTime))
		}
	}
	return next
}
