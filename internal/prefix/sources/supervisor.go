// Package sources keeps running what lends prefixes to this host: DHCPv6-PD
// clients, readers of a cloud's metadata. Each runs on one link and alone: one that
// fails or hangs is no other's matter.
package sources

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/v6net/v6net/internal/spec"
)

// Config is what a Supervisor is made of.
type Config struct {
	Starters map[spec.Source]Starter
	Leases   []spec.DelegationLease // that the journal holds
	Journal  Journal
	Changed  Changed
	Log      *slog.Logger
}

// A Supervisor owns the running sources.
type Supervisor struct {
	config Config

	mu      sync.Mutex
	runners map[spec.SourceOnLink]*runner
	turns   map[spec.SourceOnLink]*sync.Mutex // of calls to Changed
	begin   func(*runner)                     // nil while Run does not run
}

// New makes a Supervisor. What the journal holds goes on with Run.
func New(config Config) *Supervisor {
	s := &Supervisor{
		config:  config,
		runners: make(map[spec.SourceOnLink]*runner),
		turns:   make(map[spec.SourceOnLink]*sync.Mutex),
	}
	for _, lease := range config.Leases {
		if _, err := s.start(lease.SourceOnLink, lease); err != nil {
			config.Log.Warn("a source of prefixes cannot go on", "source", lease.Source, "link", lease.Link, "err", err)
		}
	}
	return s
}

// Run runs the sources until ctx ends, waits for them, and returns nil. It is called
// once. What is lent stays lent: the next daemon goes on with it.
func (s *Supervisor) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()

	s.mu.Lock()
	s.begin = func(r *runner) {
		own, stop := context.WithCancel(ctx)
		r.stop = stop
		if r.leaving || r.next != (spec.SourceOnLink{}) {
			stop()
		}
		running.Go(func() { r.notify(own) })
		running.Go(func() { r.run(own, ctx) })
	}
	for _, r := range s.runners {
		s.begin(r)
	}
	s.mu.Unlock()

	<-ctx.Done()

	s.mu.Lock()
	s.begin = nil
	s.mu.Unlock()
	return nil
}

// start has a source begin on a link, if none runs there.
func (s *Supervisor) start(at spec.SourceOnLink, before spec.DelegationLease) (*runner, error) {
	if r, ok := s.runners[at]; ok {
		return r, nil
	}
	starter, ok := s.config.Starters[at.Source]
	if !ok {
		return nil, fmt.Errorf("source=%s: %w", at.Source, spec.ErrNotAvailable)
	}
	source, err := starter(at.Link, before)
	if err != nil {
		return nil, err
	}
	r := newRunner(s, at, source, before)
	s.runners[at] = r
	if s.begin != nil {
		s.begin(r)
	}
	return r, nil
}

// Delegated is what the source has lent on the link so far. It starts the source
// there if it does not run yet, and waits for its first answer until ctx ends.
// None, and why in the error, if it has none; it is looked for on.
func (s *Supervisor) Delegated(ctx context.Context, source spec.Source, link string) ([]spec.Delegation, error) {
	at := spec.SourceOnLink{Source: source, Link: link}
	for {
		s.mu.Lock()
		if r := s.moving(at); r != nil {
			s.mu.Unlock()
			select {
			case <-r.done:
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("source=%s on %s, which was called %s: %w", source, r.next.Link, r.at.Link, ctx.Err())
			}
		}
		r, known := s.runners[at]
		if known && r.leaving {
			s.mu.Unlock()
			if err := r.hasten(ctx); err != nil {
				return nil, fmt.Errorf("source=%s on %s: what was lent before is being given back: %w", source, link, err)
			}
			continue
		}
		r, err := s.start(at, spec.DelegationLease{})
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		return r.await(ctx)
	}
}

// Keep ends every source that is not in the list, and gives back what it has lent. It
// starts none.
func (s *Supervisor) Keep(keep []spec.SourceOnLink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, r := range s.runners {
		if r.next != (spec.SourceOnLink{}) {
			at = r.next
		}
		if !slices.Contains(keep, at) && !r.leaving {
			r.leave()
		}
	}
}

// LinkRenamed has the sources on a link go on by its next name, with what they have lent. The
// link is the same one, so that nobody is to be asked again.
func (s *Supervisor) LinkRenamed(from, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, r := range s.runners {
		if r.next != (spec.SourceOnLink{}) {
			at = r.next
		}
		next := spec.SourceOnLink{Source: at.Source, Link: to}
		if _, taken := s.runners[next]; at.Link != from || r.leaving || taken {
			continue
		}
		r.next = next
		if r.stop != nil {
			r.stop()
		}
	}
}

// moving is the runner that is about to go on under another name than this, or under this name.
func (s *Supervisor) moving(at spec.SourceOnLink) *runner {
	for _, r := range s.runners {
		if r.next != (spec.SourceOnLink{}) && !r.leaving && (r.next == at || r.at == at) {
			return r
		}
	}
	return nil
}

// goOn starts what a runner under another name has stopped for.
func (s *Supervisor) goOn(r *runner, lease spec.DelegationLease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.runners, r.at)
	again, err := s.start(lease.SourceOnLink, lease)
	switch {
	case err != nil:
		s.config.Log.Error("a source of prefixes cannot go on by its link's next name", "source", lease.Source, "link", lease.Link, "err", err)
	case r.next != again.at: // and once more, a moment ago
		if again.next = r.next; again.stop != nil {
			again.stop()
		}
	}
}

// renamed is under which name a runner is to go on, if Keep has not ended it since.
func (s *Supervisor) renamed(r *runner) (next spec.SourceOnLink, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.next, r.next != (spec.SourceOnLink{}) && !r.leaving
}

// LinkChanged says that a link came up or changed: what was lent there is asked for
// anew (RFC 8415 §18.2.12). An unknown link is no error.
func (s *Supervisor) LinkChanged(link string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, r := range s.runners {
		if at.Link == link {
			r.source.LinkChanged()
		}
	}
}

// AddressesChanged says that a link has other addresses, or other prefixes are on it; empty:
// any link may.
func (s *Supervisor) AddressesChanged(link string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, r := range s.runners {
		if link == "" || at.Link == link {
			r.source.AddressesChanged()
		}
	}
}

// ClockChanged says that the wall clock was set, or that the machine has slept: what was
// lent may be over, which only those who lend it know (RFC 8415 §18.2.12).
func (s *Supervisor) ClockChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runners {
		r.source.LinkChanged()
	}
}

// Status is how every source fares, by link and source.
func (s *Supervisor) Status() []spec.DelegationStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := make([]spec.DelegationStatus, 0, len(s.runners))
	for _, r := range s.runners {
		status = append(status, r.current())
	}
	slices.SortFunc(status, func(a, b spec.DelegationStatus) int {
		return cmp.Or(cmp.Compare(a.Link, b.Link), cmp.Compare(a.Source, b.Source))
	})
	return status
}

// gone drops a runner that has ended for good.
func (s *Supervisor) gone(r *runner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.runners, r.at)
}

// left reports whether Keep has ended a runner.
func (s *Supervisor) left(r *runner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.leaving
}

// errNone is why there is no prefix where the source gives no reason.
var errNone = errors.New("no answer yet")
