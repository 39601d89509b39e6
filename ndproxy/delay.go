package ndproxy

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// maxDelayed bounds how many answers wait (RFC 6583: no state without bound).
const maxDelayed = 1024

// delayed are answers that wait for their moment, in no order: there are few.
type delayed struct {
	most time.Duration
	wake chan struct{} // holds one

	mu    sync.Mutex
	queue []delayedAnswer
}

type delayedAnswer struct {
	due time.Time
	Advertisement
}

func newDelayed(most time.Duration) *delayed {
	return &delayed{most: most, wake: make(chan struct{}, 1), queue: make([]delayedAnswer, 0, maxDelayed)}
}

// put has an answer sent after a random time, unless too many wait already.
func (d *delayed) put(a Advertisement) bool {
	d.mu.Lock()
	full := len(d.queue) == maxDelayed
	if !full {
		d.queue = append(d.queue, delayedAnswer{time.Now().Add(rand.N(d.most)), a})
	}
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return !full
}

// due takes out what is to be sent now, one answer, or says how long to wait.
func (d *delayed) due(now time.Time) (a Advertisement, wait time.Duration, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait = time.Hour
	for i := range d.queue {
		if left := d.queue[i].due.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		a = d.queue[i].Advertisement
		last := len(d.queue) - 1
		d.queue[i], d.queue = d.queue[last], d.queue[:last]
		return a, 0, true
	}
	return a, wait, false
}

// run sends what comes due until ctx ends. An answer whose lease has gone
// meanwhile is not sent.
func (d *delayed) run(ctx context.Context, leases Leases, send func(Advertisement)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		a, wait, ok := d.due(time.Now())
		if ok {
			if leases.Has(a.Target) {
				send(a)
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-timer.C:
		}
	}
}
