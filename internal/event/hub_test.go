package event_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/v6net/v6net/internal/event"
	"github.com/v6net/v6net/internal/spec"
)

func subscribe(t testing.TB, h *event.Hub, types ...spec.EventType) *event.Subscription {
	t.Helper()
	s, err := h.Subscribe(types...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func next(t testing.TB, s *event.Subscription) []spec.Event {
	t.Helper()
	got, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestEveryReaderGetsItsTypesInOrder(t *testing.T) {
	var h event.Hub
	h.Publish(spec.Event{Type: spec.EventLease}) // nobody hears
	all, leases := subscribe(t, &h), subscribe(t, &h, spec.EventLease)
	for i, kind := range []spec.EventType{spec.EventLease, spec.EventRA, spec.EventLease} {
		h.Publish(spec.Event{Type: kind, Port: uint16(i)})
	}
	for name, c := range map[string]struct {
		reader *event.Subscription
		want   []uint16
	}{"all": {all, []uint16{0, 1, 2}}, "leases": {leases, []uint16{0, 2}}} {
		var got []uint16
		for _, e := range next(t, c.reader) {
			got = append(got, e.Port)
			if e.Time.IsZero() {
				t.Errorf("%s: event %d has no time", name, e.Port)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: events %v, want %v", name, got, c.want)
		}
	}
}

// Every type that can be asked for has a number of its own: none is taken for another.
func TestTypesAreToldApart(t *testing.T) {
	var h event.Hub
	for _, kind := range spec.EventTypes {
		s := subscribe(t, &h, kind)
		for _, other := range spec.EventTypes {
			if h.Wanted(other) != (other == kind) {
				t.Errorf("who listens for %s wants %s: %v", kind, other, h.Wanted(other))
			}
		}
		s.Close()
		if h.Wanted(kind) {
			t.Errorf("%s is wanted after the end", kind)
		}
	}
}

// A flood of one type is bounded, said to be, and leaves room for others.
func TestSlowReaderIsToldWhatItLost(t *testing.T) {
	var h event.Hub
	s := subscribe(t, &h)
	const flood = 10_000
	for range flood {
		h.Publish(spec.Event{Type: spec.EventNDP})
	}
	h.Publish(spec.Event{Type: spec.EventLease})
	got := next(t, s)
	kept, leases := 0, 0
	for _, e := range got {
		switch e.Type {
		case spec.EventNDP:
			kept++
		case spec.EventLease:
			leases++
		}
	}
	last := got[len(got)-1]
	if kept == 0 || kept > 1024 || leases != 1 || last.Type != spec.EventLost || last.Lost != flood-uint64(kept) {
		t.Errorf("of a flood of %d: %d kept, %d leases behind it, at the end %+v", flood, kept, leases, last)
	}
	h.Publish(spec.Event{Type: spec.EventNDP})
	if got := next(t, s); len(got) != 1 || got[0].Type != spec.EventNDP {
		t.Errorf("after that %+v, want one event and nothing lost", got)
	}
}

func TestInterestIsToldOnceEachWay(t *testing.T) {
	var h event.Hub
	var told []bool
	h.Interest(spec.EventNDP, func(on bool) { told = append(told, on) })
	a, b := subscribe(t, &h), subscribe(t, &h, spec.EventNDP)
	c := subscribe(t, &h, spec.EventRA)
	a.Close()
	a.Close()
	b.Close()
	c.Close()
	if want := []bool{true, false}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

func TestReadersAreBounded(t *testing.T) {
	var h event.Hub
	var last *event.Subscription
	for range 32 {
		last = subscribe(t, &h)
	}
	if _, err := h.Subscribe(); !errors.Is(err, event.ErrFull) {
		t.Errorf("one more: %v, want ErrFull", err)
	}
	last.Close()
	subscribe(t, &h)
}

func TestNextEndsWithItsContext(t *testing.T) {
	var h event.Hub
	ctx, cancel := context.WithCancel(t.Context())
	s := subscribe(t, &h)
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next = %v, want the context's error", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	var h event.Hub
	h.Interest(spec.EventNDP, func(bool) {})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 1000 {
				h.Publish(spec.Event{Type: spec.EventNDP})
			}
		})
		running.Go(func() {
			for range 100 {
				s, err := h.Subscribe()
				if err != nil {
					t.Error(err)
					return
				}
				h.Publish(spec.Event{Type: spec.EventLease}) // there is one at least
				if _, err := s.Next(t.Context()); err != nil {
					t.Error(err)
				}
				s.Close()
			}
		})
	}
	running.Wait()
	if h.Wanted(spec.EventNDP) {
		t.Error("wanted after everybody has ended")
	}
}

// Nobody listens: an event costs nothing. Somebody does: no memory either, once there is room.
func TestPublishAllocatesNothing(t *testing.T) {
	var h event.Hub
	publish := func() { h.Publish(spec.Event{Type: spec.EventNDP, What: "answered", Reason: "solicited"}) }
	if n := testing.AllocsPerRun(100, publish); n != 0 {
		t.Errorf("%v allocations where nobody listens", n)
	}
	s := subscribe(t, &h)
	for range 2 { // both halves grow
		for range 2000 {
			publish()
		}
		next(t, s)
	}
	if n := testing.AllocsPerRun(100, publish); n != 0 {
		t.Errorf("%v allocations where somebody listens", n)
	}
}

func BenchmarkPublish(b *testing.B) {
	for name, listen := range map[string]bool{"nobody": false, "somebody": true} {
		b.Run(name, func(b *testing.B) {
			var h event.Hub
			if listen {
				subscribe(b, &h)
			}
			b.ReportAllocs()
			for b.Loop() {
				h.Publish(spec.Event{Type: spec.EventNDP})
			}
		})
	}
}
