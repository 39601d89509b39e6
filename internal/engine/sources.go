package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

const (
	// With source=auto a source that lends has so long to answer, once: nobody whose
	// host has no such server is to wait for it with every network. One that is asked
	// for by name has longer, and less than the container engine waits. A DHCPv6 server
	// that refuses the length of the hint is asked again without it after 1.1 s, and
	// its offer is waited for as long (RFC 8415 §18.2.1).
	autoWait  = 3 * time.Second
	namedWait = 15 * time.Second
	// silentTime is for how long one that did not answer is not asked again by auto,
	// unless its link comes up anew.
	silentTime = 10 * time.Minute
	// resumeWait is how long a source has to answer that is started again with the
	// daemon. Its networks are there meanwhile, with what they had.
	resumeWait = 5 * time.Second
)

// chooser is the host as the choice of a pool sees it.
type chooser struct {
	Host
	engine *Engine
	auto   bool // the source is left to us
}

// Delegated implements prefix.Host.
func (c chooser) Delegated(ctx context.Context, source spec.Source, link string) ([]spec.Delegation, error) {
	key := spec.SourceOnLink{Source: source, Link: link}
	wait := namedWait
	if c.auto {
		if err := c.engine.whySilent(key); err != nil {
			return nil, err
		}
		wait = autoWait
	}
	asked, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer c.engine.whileWaiting("waiting for a prefix to be lent", "source", source, "link", link, "at_most", wait)()
	lent, err := c.engine.Sources.Delegated(asked, source, link)
	if err != nil && ctx.Err() != nil {
		return nil, err // whoever asked waits no longer: that says nothing of the source
	}
	if err == nil && len(lent) == 0 {
		err = fmt.Errorf("nothing is lent on %s", link)
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = fmt.Errorf("no answer on %s within %s%s", link, wait, c.engine.lastWords(key))
	}
	if err != nil {
		c.engine.noteSilent(key, err)
		return nil, err
	}
	c.engine.noteLent(key, lent)
	return lent, nil
}

// lastWords are what a source that does not answer has said of why, for people.
func (e *Engine) lastWords(key spec.SourceOnLink) string {
	for _, s := range e.Sources.Status() {
		if s.SourceOnLink == key && s.Error != "" {
			return ": " + s.Error
		}
	}
	return ""
}

// Now implements prefix.Host.
func (c chooser) Now() time.Time { return c.engine.Clock.Now() }

// noteLent takes in what a source has answered that has not told of it by itself yet.
func (e *Engine) noteLent(key spec.SourceOnLink, lent []spec.Delegation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, said := e.lent[key]; !said {
		e.lent[key] = inSeconds(lent)
		e.tellDelegations(key, nil, e.lent[key])
	}
}

// silence is why and since when a source lends nothing.
type silence struct {
	since time.Time
	err   error
}

// whySilent is why a source lent nothing not long ago, or nil.
func (e *Engine) whySilent(key spec.SourceOnLink) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s, silent := e.silent[key]; silent && time.Since(s.since) < silentTime {
		return s.err
	}
	return nil
}

func (e *Engine) noteSilent(key spec.SourceOnLink, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.silent[key] = silence{time.Now(), err}
}

// linkCameUp forgets that sources on a link were silent if it was down until now, or
// not there: it may be another network. Many a change of a link is none of that kind.
// Of links that are gone only those are remembered that a silent source is on: the
// others are those of containers, of which there is no end.
func (e *Engine) linkCameUp(link string, up, deleted bool) {
	silent := func() bool {
		for key := range e.silent {
			if key.Link == link {
				return true
			}
		}
		return false
	}
	was := e.down[link]
	if delete(e.down, link); !up && (!deleted || silent()) {
		e.down[link] = true
	}
	if !up || !was {
		return
	}
	for key := range e.silent {
		if key.Link == link {
			delete(e.silent, key)
		}
	}
}

// reviewSources has Run see which sources are needed.
func (e *Engine) reviewSources() {
	select {
	case e.sourcing <- struct{}{}:
	default: // it is about to
	}
}

// runSources keeps those sources running that a network or pool follows, and starts
// those that did before the daemon did. It waits for them without holding anybody up.
func (e *Engine) runSources(ctx context.Context) error {
	started := map[spec.SourceOnLink]bool{}
	e.reviewSources()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.sourcing:
		}
		keep, renames := e.keepSources()
		for key := range started {
			renamed := slices.ContainsFunc(renames, func(r rename) bool { return r.from == key.Link })
			if renamed || !slices.Contains(keep, key) { // by the former name others may go on
				delete(started, key)
			}
		}
		for _, key := range keep {
			if started[key] {
				continue
			}
			started[key] = true
			asked, cancel := context.WithTimeout(ctx, resumeWait)
			// What it lends comes by DelegationsChanged, in turn: this answer may be older.
			_, err := e.Sources.Delegated(asked, key.Source, key.Link)
			cancel()
			if err != nil {
				e.Log.Warn("source lends nothing yet", "source", key.Source, "link", key.Link, "err", err)
			}
		}
	}
}

// keepSources ends the sources that nothing follows. No pool is chosen meanwhile,
// which would have started one and not be known to follow it yet.
func (e *Engine) keepSources() (keep []spec.SourceOnLink, renames []rename) {
	e.choosing.Lock()
	defer e.choosing.Unlock()
	e.mu.Lock()
	renames, e.renames = e.renames, nil
	keep = slices.SortedFunc(maps.Keys(e.followers()), compareSources)
	for key := range e.lent {
		if !slices.Contains(keep, key) {
			delete(e.lent, key)
		}
	}
	e.mu.Unlock()
	for _, r := range renames {
		e.Sources.LinkRenamed(r.from, r.to)
	}
	e.Sources.Keep(keep)
	return keep, renames
}
