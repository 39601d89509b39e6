package ra

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// farewellTime bounds how long Withdraw waits for the final advertisement.
const farewellTime = 500 * time.Millisecond

// A Supervisor keeps one advertiser running on every link that is told
// something. A link that is missing or fails degrades alone, and heals by itself.
type Supervisor struct {
	dial func(ctx context.Context, link string, source netip.Addr) (Conn, error)
	log  *slog.Logger

	mu    sync.Mutex
	links map[string]*link
	heard map[string]bool // links that are listened on, whatever is said there
	start func(*link)     // nil while Run does not run
}

// NewSupervisor makes a Supervisor that opens links by dial.
func NewSupervisor(dial func(ctx context.Context, link string, source netip.Addr) (Conn, error), log *slog.Logger) *Supervisor {
	return &Supervisor{dial: dial, log: log, links: make(map[string]*link)}
}

// Run advertises until ctx ends, waits for everything it started, and returns
// nil. It is called once. No farewell is said: a daemon that restarts takes
// nothing from its networks.
func (s *Supervisor) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()

	s.mu.Lock()
	s.start = func(l *link) {
		ctx, stop := context.WithCancel(ctx)
		l.stop = stop
		running.Go(func() { l.run(ctx, s.dial) })
	}
	for _, l := range s.links {
		s.start(l)
	}
	s.mu.Unlock()

	<-ctx.Done()

	s.mu.Lock()
	s.start = nil
	s.mu.Unlock()
	return nil
}

// Advertise says a on its link from now on, in place of what was said there
// before. It does not wait for the link. The same again is no change.
func (s *Supervisor) Advertise(a spec.Advertisement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, known := s.links[a.Link]; known {
		l.update(a)
		return
	}
	s.add(a)
}

func (s *Supervisor) add(a spec.Advertisement) {
	l := newLink(a, s.log)
	s.links[a.Link] = l
	if s.start != nil {
		s.start(l)
	}
}

// Listen hears the routers of these links from now on, and of no others than
// those on which something is said. Nothing is done with what they say; Status
// shows it.
func (s *Supervisor) Listen(links []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = make(map[string]bool)
	for _, name := range links {
		s.heard[name] = true
		if s.links[name] == nil {
			s.add(spec.Advertisement{Link: name})
		}
	}
	for name, l := range s.links {
		if !s.heard[name] && l.listens() {
			delete(s.links, name)
			if l.stop != nil {
				l.stop()
			}
		}
	}
}

// Withdraw ends what Advertise began with a final advertisement, and waits for
// that to have been sent. Withdrawing what is not there is no change.
func (s *Supervisor) Withdraw(ctx context.Context, name string) {
	s.mu.Lock()
	l, known := s.links[name]
	if known && l.listens() {
		s.mu.Unlock()
		return
	}
	delete(s.links, name)
	if known && s.heard[name] {
		s.add(spec.Advertisement{Link: name})
	}
	running := known && l.stop != nil
	s.mu.Unlock()
	if !running {
		return
	}
	defer l.stop()
	close(l.final)
	select {
	case <-l.ended:
	case <-ctx.Done():
	case <-time.After(farewellTime):
	}
}

// LinkChanged says that link came, went, or changed an address: it is dialed
// again at once. An unknown link is no error.
func (s *Supervisor) LinkChanged(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, known := s.links[name]; known {
		signal(l.changed)
	}
}

// Status is the state of every link that is advertised on, by name, with its
// counters since Advertise was first called for it.
func (s *Supervisor) Status() []spec.AdvertiserStatus {
	s.mu.Lock()
	links := slices.SortedFunc(maps.Values(s.links), func(a, b *link) int { return cmp.Compare(a.name, b.name) })
	s.mu.Unlock()
	status := make([]spec.AdvertiserStatus, len(links))
	for i, l := range links {
		status[i] = l.status()
	}
	return status
}

func equal(a, b spec.Advertisement) bool { return reflect.DeepEqual(a, b) }
