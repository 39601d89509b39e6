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

// farewellTime bounds how long Withdraw waits for the first final advertisement,
// since the container engine waits, too. Where the one before it went out less than
// 3 s ago (RFC 4861 §6.2.6) it comes later, if the link is still there by then.
const farewellTime = time.Second / 2

// A Supervisor keeps one advertiser running on every link that is told
// something. A link that is missing or fails degrades alone, and heals by itself.
type Supervisor struct {
	// Events is told of advertisements that are sent and heard. It is set before Run.
	Events spec.Events

	dial func(ctx context.Context, link string, source netip.Addr) (Conn, error)
	time func() time.Time
	log  *slog.Logger

	mu      sync.Mutex
	links   map[string]*link
	heardOn map[string]bool               // links that are listened on, whatever is said there
	told    map[string]spec.Advertisement // what an earlier daemon said on links that this one does not know yet
	start   func(*link)                   // nil while Run does not run
	over    bool                          // Run has ended
}

// NewSupervisor makes a Supervisor that opens links by dial. now is the time in which
// advertisements say until when something is (spec.AdvertisedPrefix.ValidUntil).
func NewSupervisor(dial func(ctx context.Context, link string, source netip.Addr) (Conn, error), now func() time.Time, log *slog.Logger) *Supervisor {
	return &Supervisor{Events: spec.NoEvents{}, dial: dial, time: now, log: log, links: make(map[string]*link), told: make(map[string]spec.Advertisement)}
}

// Run advertises until ctx ends, waits for everything it started, and returns
// nil. It is called once. No farewell is said: a daemon that restarts takes
// nothing from its networks.
func (s *Supervisor) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()

	s.mu.Lock()
	s.start = func(l *link) {
		running.Go(func() {
			for again := true; again; {
				l.run(ctx, s.dial)
				again = s.ended(ctx, l)
			}
		})
	}
	for _, l := range s.links {
		s.start(l)
	}
	s.mu.Unlock()

	<-ctx.Done()

	s.mu.Lock()
	s.start, s.over = nil, true
	s.mu.Unlock()
	return nil
}

// ended forgets a link that was left, unless somebody wants it again meanwhile.
func (s *Supervisor) ended(ctx context.Context, l *link) (wanted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	if !l.left() {
		return true
	}
	delete(s.links, l.name)
	return false
}

// Inherit says what an earlier daemon has told a link at last. It comes before
// everything else of that link.
func (s *Supervisor) Inherit(a spec.Advertisement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told[a.Link] = a
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
	l := newLink(a, s.log, s)
	l.claims.inherit(s.time(), s.told[a.Link].Routes)
	delete(s.told, a.Link)
	s.links[a.Link] = l
	if s.start != nil {
		s.start(l)
	}
}

// Listen hears the routers of these links from now on, and of no others than
// those on which something is said. What they say is shown by Status, and
// followed on the links that name theirs as upstream.
func (s *Supervisor) Listen(links []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heardOn = make(map[string]bool)
	for _, name := range links {
		s.heardOn[name] = true
		switch l := s.links[name]; l {
		case nil:
			s.add(spec.Advertisement{Link: name})
		default:
			l.stay()
		}
	}
	for name, l := range s.links {
		if !s.heardOn[name] && l.listens() {
			l.leave()
		}
	}
}

// Withdraw ends what Advertise began with final advertisements, and waits for
// the first of them to have been sent, but not for long; the others follow while
// the link is there.
// Withdrawing what is not there is no change.
func (s *Supervisor) Withdraw(ctx context.Context, name string) {
	s.mu.Lock()
	l, known := s.links[name]
	if !known || l.listens() {
		s.mu.Unlock()
		return
	}
	p := l.part(!s.heardOn[name])
	over := s.over
	s.mu.Unlock()
	if over {
		return
	}
	select { // also while Run has not begun, which it is about to
	case <-p.begun:
	case <-ctx.Done():
	case <-time.After(farewellTime):
	}
}

func (s *Supervisor) now() time.Time { return s.time() }

func (s *Supervisor) events() spec.Events { return s.Events }

// upstream is what the routers of a link say, if that is listened on.
func (s *Supervisor) upstream(name string) upstream {
	s.mu.Lock()
	l := s.links[name]
	s.mu.Unlock()
	if l == nil {
		return upstream{}
	}
	return l.upstream()
}

// heard has the links that depend on a link's routers look again.
func (s *Supervisor) heard(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		if l.follows(name) {
			signal(l.heard)
		}
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

// Status is the state of every link that is advertised or listened on, by name,
// with its counters since Advertise was first called for it.
func (s *Supervisor) Status() []spec.AdvertiserStatus {
	s.mu.Lock()
	links := slices.SortedFunc(maps.Values(s.links), func(a, b *link) int { return cmp.Compare(a.name, b.name) })
	s.mu.Unlock()
	status := []spec.AdvertiserStatus{}
	for _, l := range links {
		if !l.left() {
			status = append(status, l.status())
		}
	}
	return status
}

func equal(a, b spec.Advertisement) bool { return reflect.DeepEqual(a, b) }
