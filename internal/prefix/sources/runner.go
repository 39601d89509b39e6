package sources

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/v6net/v6net/internal/spec"
)

// releaseTime bounds how long the end of a source takes: RFC 8415's four Releases are
// through after 15 seconds.
const releaseTime = 20 * time.Second

// A runner is one source on one link.
type runner struct {
	supervisor *Supervisor
	at         spec.SourceOnLink
	source     Source
	turn       *sync.Mutex   // of calls to Changed for at
	news       chan struct{} // delegations changed
	done       chan struct{} // the source is at its end

	// wanted ends, by abandon, when the source is wanted again while it gives back what
	// it will be asked for anew.
	wanted  context.Context
	abandon context.CancelFunc

	// Under the supervisor's lock.
	stop    context.CancelFunc // nil before it runs
	leaving bool               // Keep has ended it
	next    spec.SourceOnLink  // where it is to go on, since its link has another name; zero: it has not

	mu       sync.Mutex
	status   spec.DelegationStatus
	lease    spec.DelegationLease
	answered bool
	told     bool          // Changed has been, or is about to be, told of this life of the source
	asked    time.Time     // when somebody was last given the source's full attention
	changed  chan struct{} // closed at the next report
}

func newRunner(s *Supervisor, at spec.SourceOnLink, source Source, before spec.DelegationLease) *runner {
	if s.turns[at] == nil {
		s.turns[at] = new(sync.Mutex)
	}
	wanted, abandon := context.WithCancel(context.Background())
	return &runner{
		supervisor: s, at: at, source: source, turn: s.turns[at],
		news: make(chan struct{}, 1), done: make(chan struct{}), changed: make(chan struct{}),
		wanted: wanted, abandon: abandon, lease: before, asked: time.Now(),
		status: spec.DelegationStatus{SourceOnLink: at, State: "starting", Since: time.Now()},
	}
}

// run runs the source until own ends. If Keep has ended it, what is lent is given back
// before all ends.
func (r *runner) run(own, all context.Context) {
	defer close(r.done)
	defer r.abandon()
	r.source.Run(own, r.report)
	if next, ok := r.supervisor.renamed(r); ok {
		r.move(next)
		return
	}
	if !r.supervisor.left(r) {
		return
	}
	defer r.supervisor.gone(r)
	log := r.supervisor.config.Log.With("source", r.at.Source, "link", r.at.Link)
	// First the record: what is half given back is not to be used again.
	if err := r.supervisor.config.Journal.DeleteDelegationLease(r.at); err != nil {
		log.Error("forget what was lent", "err", err)
	}
	ctx, cancel := context.WithTimeout(all, releaseTime)
	defer cancel()
	defer context.AfterFunc(r.wanted, cancel)()
	r.releasing()
	if err := r.source.Release(ctx); err != nil {
		log.Warn("what was lent could not be given back, and lasts until its time is over", "err", err)
	}
}

// move hands what is lent on to a source that goes on with it under the link's next name.
func (r *runner) move(next spec.SourceOnLink) {
	r.mu.Lock()
	lease := r.lease
	r.mu.Unlock()
	lease.SourceOnLink = next
	lease.Associations = slices.Clone(lease.Associations)
	for i := range lease.Associations {
		a := &lease.Associations[i]
		a.Delegations = slices.Clone(a.Delegations)
		for j := range a.Delegations {
			a.Delegations[j].Parent = next.Link
		}
	}
	if err := r.supervisor.config.Journal.MoveDelegationLease(r.at, lease); err != nil {
		r.supervisor.config.Log.Error("what is lent may be asked for anew after a restart", "source", next.Source, "link", next.Link, "err", err)
	}
	r.supervisor.goOn(r, lease)
}

func (r *runner) releasing() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set("releasing")
	r.status.Delegations = nil
}

// leave ends the source. The supervisor's lock is held.
func (r *runner) leave() {
	r.leaving = true
	if r.stop != nil {
		r.stop()
	}
}

// hasten waits for the end of a source that Keep has ended and that is wanted again.
func (r *runner) hasten(ctx context.Context) error {
	r.abandon()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *runner) set(state string) {
	if r.status.State != state {
		r.status.State, r.status.Since = state, time.Now()
	}
}

// report takes down what the source says, first in the journal.
func (r *runner) report(said spec.DelegationReport) {
	log := r.supervisor.config.Log.With("source", r.at.Source, "link", r.at.Link)
	lent := said.Lease.Delegations()
	r.mu.Lock()
	lease, told, state, trouble := r.lease, r.told, r.status.State, r.status.Error
	r.mu.Unlock()
	before := lease.Delegations() // at first the journal's
	if !reflect.DeepEqual(lease, said.Lease) {
		if err := r.write(said.Lease, len(before) > 0); err != nil {
			log.Error("what is lent may be asked for anew after a restart", "err", err)
		}
	}
	// Networks may have what the journal has no lease of any more, so that the first
	// answer is news though it says the same, or that there is nothing.
	news := !slices.Equal(before, lent) || !told && (said.Answered || len(lent) > 0)
	switch {
	case news && len(lent) > 0:
		log.Info("prefixes are lent to this host", "state", said.State, "prefixes", prefixes(lent))
	case news && len(before) > 0:
		log.Warn("prefixes are lost", "state", said.State, "prefixes", prefixes(before), "err", said.Error)
	case said.Error != trouble && said.Error != "" && len(lent) > 0:
		log.Warn("a source of prefixes", "state", said.State, "err", said.Error)
	case said.Error != trouble && said.Error != "": // as on most hosts, of one source or another
		log.Info("a source of prefixes", "state", said.State, "err", said.Error)
	case said.State != state:
		log.Debug("a source of prefixes", "state", said.State)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(said.State)
	r.status.Error, r.status.Delegations, r.lease, r.answered = said.Error, lent, said.Lease, said.Answered
	close(r.changed)
	r.changed = make(chan struct{})
	if news {
		r.told = true
		select {
		case r.news <- struct{}{}:
		default: // it will see this, too
		}
	}
}

func (r *runner) write(lease spec.DelegationLease, recorded bool) error {
	lease.SourceOnLink = r.at
	if len(lease.Delegations()) > 0 {
		return r.supervisor.config.Journal.PutDelegationLease(lease)
	}
	if recorded {
		return r.supervisor.config.Journal.DeleteDelegationLease(r.at)
	}
	return nil
}

func prefixes(lent []spec.Delegation) []string {
	list := make([]string, 0, len(lent))
	for _, d := range lent {
		list = append(list, d.Prefix.String())
	}
	return list
}

// Networks follow another prefix at most so often, but for the first few: each time all
// their containers are entered, whatever a server or a line that comes and goes says.
const (
	gainEvery = time.Minute
	mostGains = 4
)

// notify passes changes on until ctx ends.
func (r *runner) notify(ctx context.Context) {
	gains := rate.NewLimiter(rate.Every(gainEvery), mostGains)
	var told []spec.Delegation
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.news:
		}
		if gained(told, r.current().Delegations, time.Now()) && !gains.Allow() {
			r.supervisor.config.Log.Warn("other prefixes are lent too often: networks follow a while later", "source", r.at.Source, "link", r.at.Link)
			if gains.Wait(ctx) != nil {
				return
			}
			select {
			case <-r.news: // of meanwhile, with the rest
			default:
			}
		}
		told = r.tell(ctx)
	}
}

// gained reports whether there are prefixes in which connections may begin, and might not
// before: new ones, and those that were deprecated.
func gained(before, now []spec.Delegation, at time.Time) bool {
	return slices.ContainsFunc(now, func(d spec.Delegation) bool {
		return !slices.ContainsFunc(before, func(b spec.Delegation) bool {
			return b.Prefix == d.Prefix && (isPreferred(b, at) || !isPreferred(d, at))
		})
	})
}

func isPreferred(d spec.Delegation, at time.Time) bool {
	return d.Preferred.IsZero() || at.Before(d.Preferred)
}

func (r *runner) tell(ctx context.Context) (told []spec.Delegation) {
	r.turn.Lock()
	defer r.turn.Unlock()
	told = r.current().Delegations
	if ctx.Err() == nil {
		r.supervisor.config.Changed(ctx, r.at.Source, r.at.Link, slices.Clone(told))
	}
	return told
}

func (r *runner) current() spec.DelegationStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := r.status
	status.Delegations = slices.Clone(status.Delegations)
	return status
}

// askAgain is how long an answer that there is no prefix holds, and how long a source
// is left alone to find one.
const askAgain = 5 * time.Second

// await waits for what Delegated answers. A source that has run for some time without
// a prefix is asked to look for one now.
func (r *runner) await(ctx context.Context) ([]spec.Delegation, error) {
	r.mu.Lock()
	if now := time.Now(); len(r.status.Delegations) == 0 && now.Sub(r.asked) >= askAgain {
		r.answered, r.asked = false, now
		r.source.Ask()
	}
	r.mu.Unlock()
	for {
		r.mu.Lock()
		status, answered, changed := r.status, r.answered, r.changed
		r.mu.Unlock()
		if len(status.Delegations) > 0 {
			return slices.Clone(status.Delegations), nil
		}
		why := errNone
		if status.Error != "" {
			why = errors.New(status.Error)
		}
		if answered {
			return nil, fmt.Errorf("source=%s on %s: %w", r.at.Source, r.at.Link, why)
		}
		select {
		case <-changed:
		case <-r.done:
			return nil, fmt.Errorf("source=%s on %s was ended", r.at.Source, r.at.Link)
		case <-ctx.Done():
			return nil, fmt.Errorf("source=%s on %s: %s: %w (%w)", r.at.Source, r.at.Link, status.State, why, ctx.Err())
		}
	}
}
