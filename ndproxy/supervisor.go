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

// A Supervisor keeps one Proxy running on every link that has leases. A link
// that is missing or fails degrades alone, and heals by itself.
type Supervisor struct {
	dial func(ctx context.Context, link string) (Conn, error)
	log  *slog.Logger

	mu    sync.Mutex
	links map[string]*link
	start func(*link) // nil while Run does not run
}

// NewSupervisor makes a Supervisor that opens links by dial.
func NewSupervisor(dial func(ctx context.Context, link string) (Conn, error), log *slog.Logger) *Supervisor {
	return &Supervisor{dial: dial, log: log, links: make(map[string]*link)}
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

// Add answers for addr on link from now on, and tells the link's neighbors if
// the link works. It does not wait for the link. Adding again is no change; an
// address that is not IPv6 is not proxied.
func (s *Supervisor) Add(link string, addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, known := s.links[link]
	if !known {
		l = newLink(link, s.log)
	}
	if !l.proxy.Leases.Add(addr) {
		return
	}
	if known {
		l.notice(addr)
		return
	}
	s.links[link] = l
	if s.start != nil {
		s.start(l)
	}
}

// Remove ends what Add began: once it returns, no solicitation that arrives is
// answered. Removing what is not there is no change.
func (s *Supervisor) Remove(link string, addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, known := s.links[link]
	if !known || !l.proxy.Leases.Remove(addr) {
		return
	}
	if l.proxy.Leases.Len() > 0 {
		l.notice(addr)
		return
	}
	delete(s.links, link)
	if l.stop != nil {
		l.stop()
	}
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

// Status is the state of every link that has addresses, by name, with their
// counters since the link got its first one.
func (s *Supervisor) Status() []spec.ProxyStatus {
	s.mu.Lock()
	links := slices.SortedFunc(maps.Values(s.links), func(a, b *link) int { return cmp.Compare(a.name, b.name) })
	s.mu.Unlock()
	status := make([]spec.ProxyStatus, len(links))
	for i, l := range links {
		status[i] = l.status()
	}
	return status
}
