package ndproxy

import "time"

// limiter is a token bucket. It starts full.
type limiter struct {
	rate   float64 // tokens per second
	burst  float64
	tokens float64
	filled time.Time
}

func newLimiter(rate, burst float64, now time.Time) limiter {
	return limiter{rate: rate, burst: burst, tokens: burst, filled: now}
}

// allow takes a token, if there is one.
func (l *limiter) allow(now time.Time) bool {
	l.tokens = min(l.burst, l.tokens+now.Sub(l.filled).Seconds()*l.rate)
	l.filled = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}
