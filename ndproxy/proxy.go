package ndproxy

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// maxFrame holds any frame: the largest IPv6 packet without the jumbo option.
const maxFrame = ethernetLen + ipv6Len + 1<<16

// A Proxy answers for the leases of one link. The zero Proxy has none.
type Proxy struct {
	Leases   Table
	Counters Counters
	Knobs    Knobs // read when Run begins

	// Rival is told of every Conflict; nil: nobody is.
	Rival func(Rival)

	// See is told of every frame that is judged while somebody watches; nil: nobody is.
	See     func(Seen)
	watched atomic.Bool

	prefixes prefixes
	nonces   Nonces
}

// Has reports whether to answer for addr.
func (p *Proxy) Has(addr netip.Addr) bool { return p.Leases.Has(addr) || p.prefixes.has(addr) }

// Leased reports whether addr is one of the leases.
func (p *Proxy) Leased(addr netip.Addr) bool { return p.Leases.Has(addr) }

// station is how the host appears on conn.
func (p *Proxy) station(conn Conn) Station {
	return Station{
		HardwareAddr: conn.HardwareAddr(), LinkLocal: conn.LinkLocal(),
		Override: p.Knobs.Override, TargetAsSource: p.Knobs.TargetAsSource, Nonces: p.nonces,
	}
}

// Run answers what conn receives until ctx ends, and then returns nil, or until
// reading fails, and then returns that error. It closes conn.
func (p *Proxy) Run(ctx context.Context, conn Conn) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = conn.Close() // ends Read
	})
	err := p.answer(ctx, conn)
	if stop() {
		_ = conn.Close() // the error of reading is what counts
	} else {
		<-closed
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("read from link: %w", err)
}

// answer returns the first error of reading.
func (p *Proxy) answer(ctx context.Context, conn Conn) error {
	in, out := make([]byte, maxFrame), make([]byte, 0, FrameLen)
	limit, began := newShares(p.Knobs.Rates()), time.Now()
	later, end := p.delay(ctx, conn)
	defer end()
	for {
		n, err := conn.Read(in)
		if err != nil {
			return err
		}
		watched := p.watched.Load() // now: who comes while it is answered has not seen it come
		v := Decide(in[:n], p.station(conn), p)
		switch {
		case v.Reason == Conflict && p.Rival != nil:
			p.Rival(v.Rival)
		case v.Action() != Answer:
		case !limit.take([6]byte(in[6:]), time.Since(began)):
			v.Reason = RateLimited
		case later != nil && v.Reason == Solicited:
			if !later.put(v.Advertisement) {
				v.Reason = SendFailed
			}
		default:
			if _, err := conn.Write(v.Advertisement.AppendFrame(out)); err != nil {
				v.Reason = SendFailed // a link that is gone fails to read, too
			}
		}
		p.Counters.count(v.Reason)
		if watched && v.Reason != NotSolicitation {
			p.See(saw(in[:n], v.Reason))
		}
	}
}

// delay begins the sending of delayed answers, where there are to be any.
func (p *Proxy) delay(ctx context.Context, conn Conn) (later *delayed, end func()) {
	if p.Knobs.Delay <= 0 {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	later = newDelayed(p.Knobs.Delay)
	var running sync.WaitGroup
	out := make([]byte, 0, FrameLen)
	running.Go(func() {
		later.run(ctx, p, func(a Advertisement) { _, _ = conn.Write(a.AppendFrame(out)) })
	})
	return later, func() { cancel(); running.Wait() }
}
