// Package event passes on what happens to those who watch: to all of them at once,
// bounded for each, and without anybody waiting for a reader.
package event

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// Bounds of what waits for one reader. A type that comes in floods, as strangers make
// them, leaves room for the others.
const (
	maxWaiting     = 4096
	maxOfOneType   = 1024
	maxSubscribers = 32
)

// ErrFull says that as many watch as may.
var ErrFull = errors.New("32 readers watch already, and more are not served")

// Hub is where events come in and go out. The zero Hub is ready; nobody listens.
type Hub struct {
	wanted [typeCount]atomic.Int32 // how many listen, by type

	changing sync.Mutex // held while interest is told, so that it is in order
	interest map[spec.EventType]func(bool)

	mu   sync.Mutex
	subs []*Subscription
}

// Each type has a number. Those that nobody can ask for have the last one.
const typeCount = 10

func number(t spec.EventType) int {
	switch t {
	case spec.EventNDP:
		return 0
	case spec.EventRA:
		return 1
	case spec.EventLease:
		return 2
	case spec.EventPrefix:
		return 3
	case spec.EventPool:
		return 4
	case spec.EventNetwork:
		return 5
	case spec.EventEndpoint:
		return 6
	case spec.EventRenumber:
		return 7
	case spec.EventFirewall:
		return 8
	default:
		return typeCount - 1
	}
}

// Wanted reports whether anybody listens for a type: one read of memory.
func (h *Hub) Wanted(t spec.EventType) bool { return h.wanted[number(t)].Load() > 0 }

// Interest has f called whenever the first one begins to listen for a type (true), and
// when the last one has ended (false): for what costs something to be told at all. It is
// set up before anybody subscribes. f must not subscribe.
func (h *Hub) Interest(t spec.EventType, f func(bool)) {
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.interest == nil {
		h.interest = map[spec.EventType]func(bool){}
	}
	h.interest[t] = f
}

// Publish gives an event to all who listen for its type, with the time of now if it has
// none. It does not wait: of a reader that is too slow the event is counted as lost.
func (h *Hub) Publish(e spec.Event) {
	if !h.Wanted(e.Type) {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.subs {
		s.put(&e)
	}
}

// Subscribe listens for events of these types, of all where none is named. The error
// is ErrFull where there are too many who do.
func (h *Hub) Subscribe(types ...spec.EventType) (*Subscription, error) {
	if len(types) == 0 {
		types = spec.EventTypes
	}
	s := &Subscription{hub: h, wake: make(chan struct{}, 1)}
	for _, t := range types {
		s.types[number(t)] = true
	}
	h.changing.Lock()
	defer h.changing.Unlock()
	h.mu.Lock()
	if len(h.subs) >= maxSubscribers {
		h.mu.Unlock()
		return nil, ErrFull
	}
	h.subs = append(h.subs, s)
	h.mu.Unlock()
	h.count(s, 1)
	return s, nil
}

// count tells who cares that there is one more listening, or one less. The caller holds changing.
func (h *Hub) count(s *Subscription, by int32) {
	for _, t := range spec.EventTypes {
		i := number(t)
		if !s.types[i] {
			continue
		}
		now := h.wanted[i].Add(by)
		if f := h.interest[t]; f != nil && (by > 0 && now == 1 || by < 0 && now == 0) {
			f(by > 0)
		}
	}
}

// A Subscription is one reader's. Next is called by one goroutine at a time.
type Subscription struct {
	hub   *Hub
	types [typeCount]bool
	wake  chan struct{}
	ended bool // guarded by hub.changing

	// Guarded by hub.mu.
	waiting []spec.Event
	of      [typeCount]int
	lost    uint64

	spare []spec.Event // what Next gave out last
}

// put keeps an event for the reader. The caller holds hub.mu.
func (s *Subscription) put(e *spec.Event) {
	i := number(e.Type)
	if !s.types[i] {
		return
	}
	if len(s.waiting) >= maxWaiting || s.of[i] >= maxOfOneType {
		s.lost++
		return
	}
	s.of[i]++
	s.waiting = append(s.waiting, *e)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Next waits for events and answers those that there are, in their order. What was lost
// is said at the end of those that were kept meanwhile. They are the caller's until it
// asks again. The error is that of ctx.
func (s *Subscription) Next(ctx context.Context) ([]spec.Event, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.wake:
		}
		s.hub.mu.Lock()
		got, lost := s.waiting, s.lost
		s.waiting, s.lost, s.of = s.spare[:0], 0, [typeCount]int{}
		s.hub.mu.Unlock()
		if lost > 0 {
			got = append(got, spec.Event{Time: time.Now(), Type: spec.EventLost, What: "lost", Lost: lost})
		}
		s.spare = got
		if len(got) > 0 {
			return got, nil
		}
	}
}

// Close ends the listening. Closing again is no error.
func (s *Subscription) Close() {
	h := s.hub
	h.changing.Lock()
	defer h.changing.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	h.mu.Lock()
	h.subs = slices.DeleteFunc(h.subs, func(other *Subscription) bool { return other == s })
	h.mu.Unlock()
	h.count(s, -1)
}
