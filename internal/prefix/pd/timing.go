package pd

import (
	"math/rand/v2"
	"time"
)

// timing are the parameters of one exchange's retransmissions (RFC 8415 §15). Zero
// of the most means no bound.
type timing struct {
	initial time.Duration // IRT
	most    time.Duration // MRT
	count   int           // MRC
	total   time.Duration // MRD
}

// RFC 8415 §7.6.
const (
	solicitMaxDelay = time.Second      // SOL_MAX_DELAY
	solicitTimeout  = time.Second      // SOL_TIMEOUT
	solicitMost     = time.Hour        // SOL_MAX_RT
	confirmMaxDelay = time.Second      // CNF_MAX_DELAY
	renewTimeout    = 10 * time.Second // REN_TIMEOUT, REB_TIMEOUT
	renewMost       = 10 * time.Minute // REN_MAX_RT, REB_MAX_RT
)

var (
	requestTiming = timing{initial: time.Second, most: 30 * time.Second, count: 10}              // REQ_*
	refreshTiming = timing{initial: time.Second, most: 4 * time.Second, total: 10 * time.Second} // CNF_*
	releaseTiming = timing{initial: time.Second, count: 4}                                       // REL_*
	// A server may set SOL_MAX_RT within these (§21.24).
	leastSolicitMost, mostSolicitMost = time.Minute, 24 * time.Hour
)

// next is the time to wait after another transmission; before is that after the one
// before it, zero for the first (§15).
func (t timing) next(before time.Duration) time.Duration {
	rt := t.initial + jitter(t.initial)
	if before > 0 {
		rt = 2*before + jitter(before)
	}
	if t.most > 0 && rt > t.most {
		rt = t.most + jitter(t.most)
	}
	return rt
}

// jitter is RAND times d: evenly between a tenth less than nothing and a tenth more.
func jitter(d time.Duration) time.Duration {
	return time.Duration((rand.Float64()*0.2 - 0.1) * float64(d))
}

// upTo is evenly between nothing and d.
func upTo(d time.Duration) time.Duration { return rand.N(d + 1) }

// A bucket bounds what is sent, whatever servers answer (§14.1): its 20 messages in
// 20 seconds.
type bucket struct {
	sent [20]time.Time
	next int
}

const bucketSpan = 20 * time.Second

// wait is how long it is until another message may be sent.
func (b *bucket) wait(now time.Time) time.Duration {
	if oldest := b.sent[b.next]; !oldest.IsZero() {
		return max(0, oldest.Add(bucketSpan).Sub(now))
	}
	return 0
}

func (b *bucket) take(now time.Time) {
	b.sent[b.next] = now
	b.next = (b.next + 1) % len(b.sent)
}
