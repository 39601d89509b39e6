package ndproxy

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/v6net/v6net/internal/spec"
)

// A Dialer opens a link, with a [FastPath] or without.
type Dialer func(ctx context.Context, link string) (Conn, error)

// A Supervisor keeps one Proxy running on every link that has leases. A link
// that is missing or fails degrades alone, and heals by itself.
type Supervisor struct {
	// See is told what becomes of frames while Watch is on. It is set before Run, and
	// must not wait.
	See func(link string, s Seen)

	dial  Dialer
	knobs Knobs
	log   *slog.Logger

	mu     sync.Mutex
	links  map[string]*link
	ending map[string]*link // those that have nothing left and are not closed yet, the last of each name
	start  func(*link)      // nil while Run does not run
	watch  bool
}

// NewSupervisor makes a Supervisor that opens links by dial.
func NewSupervisor(dial Dialer, knobs Knobs, log *slog.Logger) *Supervisor {
	return &Supervisor{dial: dial, knobs: knobs, log: log, links: make(map[string]*link), ending: make(map[string]*link)}
}

// Run proxies until ctx ends, waits for everything it started, and returns nil.
// It is called once.
func (s *Supervisor) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()

	s.mu.Lock()
	s.start = func(l *link) {
		ctx, stop := context.WithCancel(ctx)
		l.stop = stop
		before := s.ending[l.name]
		running.Go(func() {
			defer s.ended(l)
			// What ends would take with it what this one puts in its place.
			if before != nil {
				<-before.ended
			}
			l.run(ctx, s.dial)
		})
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

// ended is called when a link has let go of what it had.
func (s *Supervisor) ended(l *link) {
	close(l.ended)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending[l.name] == l {
		delete(s.ending, l.name)
	}
}

// Add answers for addr on the link of that name from now on, and tells the link's neighbors if
// the link works. It does not wait for the link. Adding again is no change; an
// address that is not IPv6 is not proxied.
func (s *Supervisor) Add(name string, addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin(name, func(l *link) bool { return l.add(addr) })
}

// AddAll is Add for many.
func (s *Supervisor) AddAll(name string, addrs []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin(name, func(l *link) bool {
		l.proxy.Leases.Reserve(len(addrs))
		return l.add(addrs...)
	})
}

// AddPrefix answers for every address of prefix, of which all must be ours, and
// RemovePrefix ends that. Either again is no change.
func (s *Supervisor) AddPrefix(name string, prefix netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin(name, func(l *link) bool { return l.setPrefix(prefix.Masked(), true) })
}

// RemovePrefix is the way back.
func (s *Supervisor) RemovePrefix(name string, prefix netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(name, func(l *link) bool { return l.setPrefix(prefix.Masked(), false) })
}

// begin adds to a link, which runs from its first addition on.
func (s *Supervisor) begin(name string, add func(*link) bool) {
	l, known := s.links[name]
	if !known {
		l = newLink(name, s.knobs, s.log)
		if s.See != nil {
			l.proxy.See = func(seen Seen) { s.See(name, seen) }
			l.watch(s.watch)
		}
	}
	if !add(l) || known {
		return
	}
	s.links[name] = l
	if s.start != nil {
		s.start(l)
	}
}

// finish removes from a link, which ends with its last removal.
func (s *Supervisor) finish(name string, remove func(*link) bool) {
	l, known := s.links[name]
	if !known || !remove(l) || !l.idle() {
		return
	}
	delete(s.links, name)
	if l.stop != nil {
		s.ending[name] = l
		l.stop()
	}
}

// Remove ends what Add began: once it returns, no solicitation that arrives is
// answered. Removing what is not there is no change.
func (s *Supervisor) Remove(name string, addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(name, func(l *link) bool { return l.remove(addr) })
}

// LinkChanged says that link came, went, or changed an address, its MAC or its
// link-local one: it is dialed again at once. An unknown link is no error.
func (s *Supervisor) LinkChanged(link string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, known := s.links[link]; known {
		l.change()
	}
}

// Watch begins or ends the telling of See.
func (s *Supervisor) Watch(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch = on
	for _, l := range s.links {
		l.watch(on)
	}
}

// Status is the state of every link that has addresses, by name, with their
// counters since the link got its first one.
func (s *Supervisor) Status() []spec.ProxyStatus {
	links := s.all()
	status := make([]spec.ProxyStatus, len(links))
	for i, l := range links {
		status[i] = l.status()
		status[i].Addresses = slices.SortedFunc(l.proxy.Leases.All(), netip.Addr.Compare)
	}
	return status
}

// Summary is Status without the addresses, of which there may be a million.
func (s *Supervisor) Summary() []spec.ProxyStatus {
	links := s.all()
	status := make([]spec.ProxyStatus, len(links))
	for i, l := range links {
		status[i] = l.status()
	}
	return status
}

// Links are the names of those that have addresses.
func (s *Supervisor) Links() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.links))
}

// all are the links by name.
func (s *Supervisor) all() []*link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.links), func(a, b *link) int { return cmp.Compare(a.name, b.name) })
}
