package ndproxy

import (
	"hash/maphash"
	"time"
)

// shareCount bounds what is remembered of solicitors: those whose MAC addresses
// have the same hash share one allowance.
const shareCount = 4096

// shares limit answers by solicitor and for all together, by the generic cell
// rate algorithm: each holds the time until which it is used up. They take the
// same memory whoever floods (RFC 6583).
type shares struct {
	interval, sourceInterval time.Duration // that one answer uses up
	burst, sourceBurst       time.Duration // that can be saved up
	seed                     maphash.Seed  // secret: strangers choose their MAC addresses
	all                      time.Duration
	sources                  [shareCount]time.Duration
}

// shareBurst is how long a solicitor can be silent and have its share saved up.
const shareBurst = 100 * time.Millisecond

// Share is what one answer uses up at a rate, and how much can be saved up: one
// answer at least, or none would ever be sent.
func Share(rate int) (interval, burst time.Duration) {
	interval = time.Second / time.Duration(rate)
	return interval, max(shareBurst, interval)
}

func newShares(rate, sourceRate int) *shares {
	s := &shares{seed: maphash.MakeSeed()}
	s.interval, s.burst = Share(rate)
	s.sourceInterval, s.sourceBurst = Share(sourceRate)
	return s
}

// take uses up the shares of one answer, unless one of them is used up already.
// The time now is since some fixed moment.
func (s *shares) take(from [6]byte, now time.Duration) bool {
	source := &s.sources[maphash.Comparable(s.seed, from)%shareCount]
	mine, all := max(*source, now), max(s.all, now)
	if mine-now > s.sourceBurst-s.sourceInterval || all-now > s.burst-s.interval {
		return false
	}
	*source, s.all = mine+s.sourceInterval, all+s.interval
	return true
}
