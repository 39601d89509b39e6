package ndproxy

import (
	"net/netip"
	"sync"
)

// A queue takes addresses without blocking, for one that waits for them. It holds
// no more than were leased or removed since that one looked.
type queue struct {
	wake chan struct{} // holds one

	mu    sync.Mutex
	addrs []netip.Addr
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) put(addrs ...netip.Addr) {
	q.mu.Lock()
	q.addrs = append(q.addrs, addrs...)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take is all that has come.
func (q *queue) take() []netip.Addr {
	q.mu.Lock()
	defer q.mu.Unlock()
	addrs := q.addrs
	q.addrs = nil
	return addrs
}
