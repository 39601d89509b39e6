package ndproxy

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// The wait for a link that cannot be dialed, when no event ends it earlier.
// Doubled after every failure.
const (
	minRedial = time.Second
	maxRedial = time.Minute
)

// run proxies on the link until ctx ends.
func (l *link) run(ctx context.Context, dial Dialer) {
	wait := minRedial
	for ctx.Err() == nil {
		select {
		case <-l.changed: // events up to here are about the link that is now dialed
		default:
		}
		conn, err := dial(ctx, l.name)
		if err == nil {
			wait = minRedial
			if err = l.session(ctx, conn); errors.Is(err, errChanged) {
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		l.degrade(err)
		select {
		case <-ctx.Done():
		case <-l.changed:
			wait = minRedial
		case <-time.After(wait):
			wait = min(2*wait, maxRedial)
		}
	}
}

// session proxies on conn and closes it. Its error is nil when ctx ended,
// errChanged when the link has changed, or why reading failed.
func (l *link) session(parent context.Context, conn Conn) error {
	notices, told := newQueue(), newQueue()
	fast, isFast := conn.(FastPath)
	l.begin(notices)
	defer l.end()

	ctx, cancel := context.WithCancelCause(parent)
	var running sync.WaitGroup
	joined := make(chan struct{})
	running.Go(func() {
		l.joinAll(ctx, conn)
		close(joined)
		l.join(ctx, conn, notices, told)
	})
	running.Go(func() {
		// Before telling: who attaches by clsact has all lost that the link sends
		// meanwhile (net/sched/sch_api.c qdisc_graft).
		if isFast {
			l.accelerate(ctx, fast)
		}
		// After joining: who hears of an address may ask for it.
		<-joined
		l.tell(ctx, conn, told)
	})
	running.Go(func() { l.logRivals(ctx) })
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-l.changed:
			}
			if conn.Changed() {
				cancel(errChanged)
			}
		}
	})
	err := l.proxy.Run(ctx, conn)
	cancel(err)
	running.Wait()
	if isFast {
		if err := fast.Detach(); err != nil { // for the second time
			l.log.Warn("the fast path of the NDP proxy is not taken off the link", "err", err)
		}
	}
	if cause := context.Cause(ctx); errors.Is(cause, errChanged) {
		return cause
	}
	return err
}

// begin has notice taken of the leases that come from now on.
func (l *link) begin(notices *queue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.Info("proxying neighbor discovery", "addresses", l.proxy.Leases.Len())
	l.err, l.notices, l.all = nil, notices, false
}

func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notices, l.all = nil, false
	l.settle()
}

// accelerate loads the fast path, fills it and attaches it. Until then, and if that
// fails, all is answered without it.
func (l *link) accelerate(ctx context.Context, fast FastPath) {
	err := fast.Load()
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	if err != nil {
		defer l.mu.Unlock()
		if l.slow == nil || l.slow.Error() != err.Error() {
			l.log.Warn("the NDP proxy answers by packet socket", "err", err)
		}
		l.slow = err
		return
	}
	l.fast, l.slow = fast, nil
	l.speed(errors.Join(fast.SetPrefixes(l.proxy.prefixes.all()), fast.Reserve(l.proxy.Leases.Len())))
	l.mu.Unlock()
	addrs := make([]netip.Addr, 0, piece)
	fill := func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.fast == nil || ctx.Err() != nil {
			return false
		}
		// Still: what was removed meanwhile must not come back.
		addrs = slices.DeleteFunc(addrs, func(addr netip.Addr) bool { return !l.proxy.Leases.Has(addr) })
		l.speed(fast.AddAll(addrs))
		addrs = addrs[:0]
		return l.fast != nil
	}
	for addr := range l.proxy.Leases.All() {
		if addrs = append(addrs, addr); len(addrs) == piece && !fill() {
			return
		}
	}
	if !fill() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fast != nil && ctx.Err() == nil {
		l.speed(fast.Attach(l.proxy.station(fast), l.proxy.Knobs))
	}
	if l.fast != nil {
		l.log.Info("answering by eBPF", "addresses", l.proxy.Leases.Len())
		l.report(fast)
	}
}

// degrade records why the link does not work, and logs it once.
func (l *link) degrade(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil || l.err.Error() != err.Error() {
		l.log.Warn("cannot proxy neighbor discovery", "err", err)
	}
	l.err = err
}
