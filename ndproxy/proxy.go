package ndproxy

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// DefaultRate is how many answers per second one link gets at most, in bursts of
// a tenth of that. The limit is for all solicitors together: who floods for live
// leases spends the others' share too.
const DefaultRate = 100_000

// maxFrame holds any frame: the largest IPv6 packet without the jumbo option.
const maxFrame = ethernetLen + ipv6Len + 1<<16

// A Proxy answers for the leases of one link. The zero Proxy has none.
type Proxy struct {
	Leases   Table
	Counters Counters
	Rate     int // answers per second; 0: DefaultRate. Read when Run begins
}

// Run answers what conn receives until ctx ends, and then returns nil, or until
// reading fails, and then returns that error. It closes conn.
func (p *Proxy) Run(ctx context.Context, conn Conn) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = conn.Close() // ends Read
	})
	err := p.answer(conn)
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
func (p *Proxy) answer(conn Conn) error {
	in, out := make([]byte, maxFrame), make([]byte, 0, FrameLen)
	rate := float64(cmp.Or(p.Rate, DefaultRate))
	limit := newLimiter(rate, rate/10, time.Now())
	for {
		n, err := conn.Read(in)
		if err != nil {
			return err
		}
		v := Decide(in[:n], station(conn), &p.Leases)
		if v.Action() == Answer {
			if !limit.allow(time.Now()) {
				v.Reason = RateLimited
			} else if _, err := conn.Write(v.Advertisement.AppendFrame(out)); err != nil {
				v.Reason = SendFailed // a link that is gone fails to read, too
			}
		}
		p.Counters.count(v.Reason)
	}
}
