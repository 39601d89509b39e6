package ndproxy

import (
	"cmp"
	"time"
)

// DefaultRate is Knobs.Rate's. That of Knobs.SourceRate is half of the rate: one
// solicitor that floods for live leases leaves half to the others.
const DefaultRate = 100_000

// Knobs are for links on which the defaults, which are the RFCs', do not do.
type Knobs struct {
	// Override sets the Override flag, for solicitors that keep what they have
	// without it. RFC 4861 §7.2.8 has a proxy clear it.
	Override bool

	// TargetAsSource answers from the target in place of the link's own address,
	// for links where frames from link-local addresses are lost.
	TargetAsSource bool

	// Delay is the most that an answer to a multicast solicitation waits, by
	// chance (RFC 4861 §7.2.8, MAX_ANYCAST_DELAY_TIME). It is of use where others
	// proxy the same addresses; 0, the default, answers at once.
	Delay time.Duration

	// Rate and SourceRate are how many answers per second a link gets at most, and
	// any one MAC address on it, in bursts of a tenth of that, and of one at least.
	// 0 is the default, which for SourceRate is half of Rate.
	Rate, SourceRate int
}

// Rates are the limits, defaults filled in.
func (k Knobs) Rates() (all, source int) {
	all = cmp.Or(k.Rate, DefaultRate)
	return all, cmp.Or(k.SourceRate, max(1, all/2))
}
