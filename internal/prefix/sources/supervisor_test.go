package sources

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// fake is a source that says what a test tells it to.
type fake struct {
	lab    *lab
	mute   bool // about before, as the cloud's is: it says what is there now
	at     spec.SourceOnLink
	before spec.DelegationLease
	tell   chan spec.DelegationReport
	// release is what Release does; nil: it succeeds at once.
	release func(context.Context) error

	mu        sync.Mutex
	asked     int
	changed   int
	addresses int
	released  int
}

func (f *fake) Run(ctx context.Context, report func(spec.DelegationReport)) {
	if ctx.Err() == nil && !f.mute && len(f.before.Delegations()) > 0 {
		report(spec.DelegationReport{State: "bound", Answered: true, Lease: f.before})
	}
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-f.tell:
			report(r)
		}
	}
}

func (f *fake) count(n *int)      { f.mu.Lock(); defer f.mu.Unlock(); *n++ }
func (f *fake) LinkChanged()      { f.count(&f.changed) }
func (f *fake) AddressesChanged() { f.count(&f.addresses) }
func (f *fake) Ask()              { f.count(&f.asked) }

func (f *fake) Release(ctx context.Context) error {
	f.count(&f.released)
	if f.release != nil {
		return f.release(ctx)
	}
	return nil
}

// lab is a supervisor whose sources are fakes.
type lab struct {
	t          *testing.T
	supervisor *Supervisor
	config     Config

	mu      sync.Mutex
	started []*fake
	mute    bool // as that of what is started
	journal map[spec.SourceOnLink]spec.DelegationLease
	changes []string
	slow    chan struct{} // not nil: Changed waits for it to be closed
}

func (l *lab) PutDelegationLease(lease spec.DelegationLease) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.journal[lease.SourceOnLink] = lease
	return nil
}

func (l *lab) DeleteDelegationLease(at spec.SourceOnLink) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.journal, at)
	return nil
}

func (l *lab) MoveDelegationLease(from spec.SourceOnLink, to spec.DelegationLease) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.journal, from)
	if len(to.Delegations()) > 0 {
		l.journal[to.SourceOnLink] = to
	}
	return nil
}

// run runs a supervisor as long as f.
func run(t *testing.T, f func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, journal: map[spec.SourceOnLink]spec.DelegationLease{}}
		starter := func(source spec.Source) Starter {
			return func(link string, before spec.DelegationLease) (Source, error) {
				l.mu.Lock()
				defer l.mu.Unlock()
				if link == "bad0" {
					return nil, errors.New("no such luck")
				}
				s := &fake{lab: l, mute: l.mute, at: spec.SourceOnLink{Source: source, Link: link}, before: before, tell: make(chan spec.DelegationReport)}
				l.started = append(l.started, s)
				return s, nil
			}
		}
		l.config = Config{
			Starters: map[spec.Source]Starter{spec.SourcePD: starter(spec.SourcePD), spec.SourceCloud: starter(spec.SourceCloud)},
			Journal:  l, Changed: l.change, Log: slog.New(slog.DiscardHandler),
		}
		f(l)
	})
}

// daemon runs a supervisor on the journal while f runs.
func (l *lab) daemon(f func()) {
	l.mu.Lock()
	l.started, l.config.Leases = nil, nil
	for _, lease := range l.journal {
		l.config.Leases = append(l.config.Leases, lease)
	}
	l.mu.Unlock()
	l.supervisor = New(l.config)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- l.supervisor.Run(ctx) }()
	synctest.Wait()
	f()
	cancel()
	if err := <-ran; err != nil {
		l.t.Errorf("Run = %v", err)
	}
}

func (l *lab) change(_ context.Context, source spec.Source, link string, lent []spec.Delegation) {
	l.mu.Lock()
	slow := l.slow
	l.mu.Unlock()
	if slow != nil {
		<-slow
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, strings.Join(append([]string{string(source), link}, prefixes(lent)...), " "))
}

func (l *lab) wantChanges(want ...string) {
	l.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.changes, want) {
		l.t.Errorf("changes %q, want %q", l.changes, want)
	}
	l.changes = nil
}

func (l *lab) source(i int) *fake {
	l.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if i >= len(l.started) {
		l.t.Fatalf("%d sources were started, want more than %d", len(l.started), i)
	}
	return l.started[i]
}

func lent(prefixes ...string) spec.DelegationReport {
	a := spec.Association{ID: 1}
	for _, p := range prefixes {
		a.Delegations = append(a.Delegations, spec.Delegation{Prefix: netip.MustParsePrefix(p)})
	}
	return spec.DelegationReport{State: "bound", Answered: true, Lease: spec.DelegationLease{Associations: []spec.Association{a}}}
}

func (l *lab) delegated(wait time.Duration, source spec.Source, link string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	got, err := l.supervisor.Delegated(ctx, source, link)
	return strings.Join(prefixes(got), " "), err
}

var pdOnEth0 = spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"}

func TestDelegatedStartsAndWaits(t *testing.T) {
	run(t, func(l *lab) {
		l.daemon(func() {
			var got string
			var err error
			answered := make(chan struct{})
			go func() { got, err = l.delegated(time.Minute, spec.SourcePD, "eth0"); close(answered) }()
			s := l.source(0)
			s.tell <- spec.DelegationReport{State: "soliciting"}
			time.Sleep(time.Second)
			select {
			case <-answered:
				t.Fatal("answered before the source has")
			default:
			}
			s.tell <- lent("2001:db8::/56")
			<-answered
			if err != nil || got != "2001:db8::/56" {
				t.Errorf("Delegated = %s, %v", got, err)
			}
			l.wantChanges("pd eth0 2001:db8::/56")
			if _, ok := l.journal[pdOnEth0]; !ok {
				t.Error("nothing is in the journal")
			}
			// The second time it is known, and no second source starts.
			if got, err := l.delegated(0, spec.SourcePD, "eth0"); err != nil || got != "2001:db8::/56" {
				t.Errorf("Delegated = %s, %v", got, err)
			}
			s.tell <- lent("2001:db8:1::/56")
			l.wantChanges("pd eth0 2001:db8:1::/56")
			s.tell <- lent("2001:db8:1::/56")
			l.wantChanges()
			s.tell <- spec.DelegationReport{State: "soliciting", Error: "lost"}
			l.wantChanges("pd eth0")
			if len(l.journal) > 0 {
				t.Errorf("the journal has %v of what is lost", l.journal)
			}
			if len(l.started) != 1 {
				t.Errorf("%d sources were started", len(l.started))
			}
		})
	})
}

func TestDelegatedSaysWhyNot(t *testing.T) {
	run(t, func(l *lab) {
		l.daemon(func() {
			// Silence costs what the caller gives, and no more.
			began := time.Now()
			_, err := l.delegated(2*time.Second, spec.SourcePD, "eth0")
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 2*time.Second {
				t.Errorf("Delegated = %v after %v", err, took)
			}
			// A refusal is an answer.
			s := l.source(0)
			s.tell <- spec.DelegationReport{State: "soliciting", Error: "NoPrefixAvail", Answered: true}
			synctest.Wait()
			if _, err := l.delegated(time.Minute, spec.SourcePD, "eth0"); err == nil || s.wasAsked() > 0 {
				t.Errorf("Delegated = %v, and the source was asked %d times: the answer is fresh", err, s.wasAsked())
			}
			time.Sleep(askAgain)
			began = time.Now()
			go func() {
				for s.wasAsked() == 0 {
					time.Sleep(time.Millisecond)
				}
				s.tell <- spec.DelegationReport{State: "soliciting", Error: "NoPrefixAvail still", Answered: true}
			}()
			_, err = l.delegated(time.Minute, spec.SourcePD, "eth0")
			if err == nil || !strings.Contains(err.Error(), "NoPrefixAvail still") || time.Since(began) > time.Second {
				t.Errorf("Delegated = %v after %v, want what the source says when asked again", err, time.Since(began))
			}
			if _, err := l.delegated(0, spec.SourceParent, "eth0"); !errors.Is(err, spec.ErrNotAvailable) {
				t.Errorf("source=parent: %v", err)
			}
			if _, err := l.delegated(0, spec.SourcePD, "bad0"); err == nil || !strings.Contains(err.Error(), "no such luck") {
				t.Errorf("a source that cannot start: %v", err)
			}
			if status := l.supervisor.Status(); len(status) != 1 || status[0].Error != "NoPrefixAvail still" || status[0].State != "soliciting" {
				t.Errorf("status %+v", status)
			}
		})
	})
}

func (f *fake) wasAsked() int { f.mu.Lock(); defer f.mu.Unlock(); return f.asked }

func TestKeep(t *testing.T) {
	run(t, func(l *lab) {
		l.daemon(func() {
			for _, link := range []string{"eth0", "eth1"} {
				_, _ = l.delegated(0, spec.SourcePD, link)
			}
			_, _ = l.delegated(0, spec.SourceCloud, "eth0")
			first := l.source(0)
			for i := range 3 {
				l.source(i).tell <- lent("2001:db8::/56")
			}
			l.wantChangeCount(3)
			l.supervisor.Keep([]spec.SourceOnLink{{Source: spec.SourcePD, Link: "eth1"}, {Source: spec.SourceCloud, Link: "eth0"}})
			synctest.Wait()
			if first.released != 1 || l.source(1).released != 0 || l.source(2).released != 0 {
				t.Errorf("released: %d, %d, %d times", first.released, l.source(1).released, l.source(2).released)
			}
			if _, ok := l.journal[pdOnEth0]; ok || len(l.journal) != 2 {
				t.Errorf("the journal holds %v", l.journal)
			}
			if n := len(l.supervisor.Status()); n != 2 {
				t.Errorf("%d sources are left", n)
			}
			l.wantChanges() // whoever ends it knows

			// Wanted again while it is given back: that is not waited for.
			slow := l.source(1)
			slow.release = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			l.supervisor.Keep(nil)
			synctest.Wait()
			if got := l.supervisor.Status(); len(got) != 1 || got[0].State != "releasing" || len(got[0].Delegations) > 0 {
				t.Errorf("status %+v", got)
			}
			began := time.Now()
			_, err := l.delegated(time.Second, spec.SourcePD, "eth1")
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("Delegated = %v after %v", err, time.Since(began))
			}
			l.source(3).tell <- lent("2001:db8:9::/56")
			l.wantChanges("pd eth1 2001:db8:9::/56")
		})
	})
}

func (l *lab) wantChangeCount(n int) {
	l.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.changes) != n {
		l.t.Errorf("changes %q, want %d", l.changes, n)
	}
	l.changes = nil
}

// A release that nobody answers ends in time, as does one at the daemon's end.
func TestReleaseIsBounded(t *testing.T) {
	run(t, func(l *lab) {
		l.daemon(func() {
			for i := range 2 {
				_, _ = l.delegated(0, spec.SourcePD, "eth0")
				l.source(i).release = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
				l.supervisor.Keep(nil)
				if i == 0 {
					time.Sleep(releaseTime)
					synctest.Wait()
					if got := l.supervisor.Status(); len(got) > 0 {
						t.Errorf("after %v: %+v", releaseTime, got)
					}
				}
			}
		})
	})
}

func TestRestartGoesOn(t *testing.T) {
	run(t, func(l *lab) {
		l.daemon(func() {
			_, _ = l.delegated(0, spec.SourcePD, "eth0")
			l.source(0).tell <- lent("2001:db8::/56")
			l.wantChanges("pd eth0 2001:db8::/56")
		})
		if l.started[0].released > 0 {
			t.Error("the daemon's end has given the prefix back")
		}
		l.daemon(func() {
			if before := l.source(0).before; len(before.Delegations()) != 1 {
				t.Errorf("the source goes on with %+v", before)
			}
			if got, err := l.delegated(0, spec.SourcePD, "eth0"); err != nil || got != "2001:db8::/56" {
				t.Errorf("Delegated = %s, %v", got, err)
			}
			l.wantChanges("pd eth0 2001:db8::/56")
		})
		// What no network uses any more is given back, also when Keep is called before Run.
		l.config.Leases = []spec.DelegationLease{l.journal[pdOnEth0]}
		l.started = nil
		l.supervisor = New(l.config)
		l.supervisor.Keep(nil)
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- l.supervisor.Run(ctx) }()
		synctest.Wait()
		if l.source(0).released != 1 || len(l.journal) != 0 {
			t.Errorf("released %d times, in the journal %v", l.source(0).released, l.journal)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run = %v", err)
		}
		l.wantChanges()
		// What was lost while no daemon ran is told.
		l.journal[pdOnEth0] = spec.DelegationLease{SourceOnLink: pdOnEth0, Associations: lent("2001:db8::/56").Lease.Associations}
		l.daemon(func() {
			l.source(0).tell <- spec.DelegationReport{State: "soliciting"}
			l.wantChanges("pd eth0 2001:db8::/56", "pd eth0")
		})
	})
}

// The first answer after a start is told, whatever it is: networks may have what was
// taken back while no daemon ran, and the journal's lease may have gone before they heard.
func TestFirstAnswerAfterAStartIsTold(t *testing.T) {
	none := spec.DelegationReport{State: "none assigned", Answered: true, Error: "none is assigned"}
	for _, tt := range []struct {
		name     string
		recorded bool
		answer   spec.DelegationReport
		want     string
	}{
		{"taken back", true, none, "pd eth0"},
		{"taken back, and the daemon killed before networks heard", false, none, "pd eth0"},
		{"the same", true, lent("2001:db8::/56"), "pd eth0 2001:db8::/56"},
		{"another", true, lent("2001:db8:1::/56"), "pd eth0 2001:db8:1::/56"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, func(l *lab) {
				l.mute = true
				if tt.recorded {
					l.journal[pdOnEth0] = spec.DelegationLease{SourceOnLink: pdOnEth0, Associations: lent("2001:db8::/56").Lease.Associations}
				}
				l.daemon(func() {
					_, _ = l.delegated(0, spec.SourcePD, "eth0")
					l.source(0).tell <- spec.DelegationReport{State: "soliciting", Lease: l.source(0).before}
					if tt.recorded {
						l.wantChanges("pd eth0 2001:db8::/56") // what is lent from before holds while nothing else is said
					} else {
						l.wantChanges() // that is no answer
					}
				})
				l.daemon(func() {
					_, _ = l.delegated(0, spec.SourcePD, "eth0")
					l.source(0).tell <- tt.answer
					l.wantChanges(tt.want)
					l.source(0).tell <- tt.answer
					l.wantChanges()
				})
			})
		})
	}
}

// A listener that takes its time holds no source up, and is told the last of what
// happened meanwhile; one source's listener is not another's.
func TestSlowListener(t *testing.T) {
	run(t, func(l *lab) {
		l.daemon(func() {
			_, _ = l.delegated(0, spec.SourcePD, "eth0")
			l.slow = make(chan struct{})
			for _, p := range []string{"2001:db8:1::/56", "2001:db8:2::/56", "2001:db8:3::/56"} {
				l.source(0).tell <- lent(p)
				synctest.Wait()
			}
			if got, err := l.delegated(0, spec.SourcePD, "eth0"); err != nil || got != "2001:db8:3::/56" {
				t.Errorf("Delegated = %s, %v", got, err)
			}
			l.mu.Lock()
			slow := l.slow
			l.slow = nil
			l.mu.Unlock()
			_, _ = l.delegated(0, spec.SourcePD, "eth1")
			l.source(1).tell <- lent("2001:db8:9::/56")
			l.wantChanges("pd eth1 2001:db8:9::/56")
			close(slow)
			l.wantChanges("pd eth0 2001:db8:1::/56", "pd eth0 2001:db8:3::/56")
		})
	})
}

// Whoever lends another prefix each second is followed once a minute, after the first few;
// what prolongs a prefix, and what takes one away, is told at once.
func TestChangesArePaced(t *testing.T) {
	run(t, func(l *lab) {
		l.daemon(func() {
			_, _ = l.delegated(0, spec.SourcePD, "eth0")
			for i := range 605 {
				l.source(0).tell <- lent(fmt.Sprintf("2001:db8:%x::/56", i+1))
				time.Sleep(time.Second)
			}
			synctest.Wait()
			l.mu.Lock()
			n := len(l.changes)
			l.changes = nil
			l.mu.Unlock()
			if n < mostGains || n > mostGains+10 {
				t.Errorf("%d changes were told in ten minutes, want %d and one a minute", n, mostGains)
			}
			time.Sleep(time.Hour)
			l.wantChanges("pd eth0 2001:db8:25d::/56") // the last one, in the end
			for i := range 10 {
				r := lent("2001:db8:25d::/56")
				r.Lease.Associations[0].Delegations[0].Valid = time.Now().Add(time.Duration(i+1) * time.Hour)
				l.source(0).tell <- r
				l.wantChanges("pd eth0 2001:db8:25d::/56")
			}
			l.source(0).tell <- lent()
			l.wantChanges("pd eth0")
		})
	})
}

// Two prefixes that are deprecated in turn are as many changes: each has networks follow the other.
func TestAlternatingPreferencesArePaced(t *testing.T) {
	run(t, func(l *lab) {
		l.daemon(func() {
			_, _ = l.delegated(0, spec.SourcePD, "eth0")
			for i := range 601 {
				r := lent("2001:db8:1::/64", "2001:db8:2::/64")
				r.Lease.Associations[0].Delegations[i%2].Preferred = time.Now()
				l.source(0).tell <- r
				time.Sleep(time.Second)
			}
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			if n := len(l.changes); n < mostGains || n > mostGains+10 {
				t.Errorf("%d changes were told in ten minutes, want %d and one a minute", n, mostGains)
			}
		})
	})
}

func TestLinkChanged(t *testing.T) {
	run(t, func(l *lab) {
		l.daemon(func() {
			_, _ = l.delegated(0, spec.SourcePD, "eth0")
			_, _ = l.delegated(0, spec.SourcePD, "eth1")
			l.supervisor.LinkChanged("eth1")
			l.supervisor.LinkChanged("lo")
			if l.source(0).changed != 0 || l.source(1).changed != 1 {
				t.Errorf("told %d and %d times, want 0 and 1", l.source(0).changed, l.source(1).changed)
			}
			l.supervisor.ClockChanged()
			if l.source(0).changed != 1 || l.source(1).changed != 2 {
				t.Errorf("told %d and %d times with the clock, want 1 and 2", l.source(0).changed, l.source(1).changed)
			}
			l.supervisor.AddressesChanged("eth1")
			l.supervisor.AddressesChanged("") // of any link
			if l.source(0).addresses != 1 || l.source(1).addresses != 2 {
				t.Errorf("told of addresses %d and %d times, want 1 and 2", l.source(0).addresses, l.source(1).addresses)
			}
		})
	})
}

// A link gets another name: what is lent there is not given back, and goes on by that.
func TestLinkRenamed(t *testing.T) {
	run(t, func(l *lab) {
		wan0 := spec.SourceOnLink{Source: spec.SourcePD, Link: "wan0"}
		l.daemon(func() {
			go func() { _, _ = l.delegated(time.Minute, spec.SourcePD, "eth0") }()
			l.source(0).tell <- lent("2001:db8::/56")
			l.wantChanges("pd eth0 2001:db8::/56")
			l.supervisor.LinkRenamed("eth0", "wan0")
			l.supervisor.Keep([]spec.SourceOnLink{wan0})
			if got, err := l.delegated(time.Second, spec.SourcePD, "wan0"); err != nil || got != "2001:db8::/56" {
				t.Errorf("Delegated = %s, %v", got, err)
			}
			l.wantChanges("pd wan0 2001:db8::/56")
			if s := l.source(0); s.released != 0 {
				t.Error("what is lent was given back")
			}
			if before := l.source(1).before; before.Link != "wan0" || before.Delegations()[0].Parent != "wan0" {
				t.Errorf("it goes on with %+v", before)
			}
			l.supervisor.LinkRenamed("eth0", "wan7") // nothing is there any more
			if s := l.supervisor.Status(); len(s) != 1 || s[0].SourceOnLink != wan0 {
				t.Errorf("status %+v", s)
			}

			// Twice in a row, and back; whoever asks meanwhile waits for what goes on.
			l.supervisor.LinkRenamed("wan0", "lan7")
			l.supervisor.LinkRenamed("lan7", "eth0")
			if got, err := l.delegated(time.Second, spec.SourcePD, "eth0"); err != nil || got != "2001:db8::/56" {
				t.Errorf("Delegated = %s, %v", got, err)
			}
			synctest.Wait()
			if s := l.supervisor.Status(); len(s) != 1 || s[0].SourceOnLink != pdOnEth0 {
				t.Errorf("status %+v", s)
			}
		})
		if len(l.journal) != 1 || len(l.journal[pdOnEth0].Delegations()) != 1 {
			t.Errorf("journal %+v", l.journal)
		}
		// The daemon ends in that moment, and the next one goes on.
		l.daemon(func() { l.supervisor.LinkRenamed("eth0", "wan0") })
		l.daemon(func() {
			if got, err := l.delegated(time.Second, spec.SourcePD, "wan0"); err != nil || got != "2001:db8::/56" {
				t.Errorf("Delegated = %s, %v", got, err)
			}
			// Nobody wants it any more.
			l.supervisor.LinkRenamed("wan0", "eth0")
			l.supervisor.Keep(nil)
			synctest.Wait()
			if s := l.supervisor.Status(); len(s) != 0 || len(l.journal) != 0 {
				t.Errorf("status %+v, journal %+v", s, l.journal)
			}
		})
	})
}
