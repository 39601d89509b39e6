// Package clock is the time by which lifetimes are kept. It begins as the wall clock
// has it, and goes on with the time since the machine's boot: so it is never set, and
// does not stand still while the machine sleeps. The wall clock is off by years on a
// machine without one of its own until NTP sets it; a prefix that is lent for an hour
// lasts an hour all the same.
package clock

import (
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// Readings are the machine's clocks.
type Readings struct {
	Wall func() time.Time     // as people have it, and set it
	Up   func() time.Duration // since the machine's boot, sleep included
}

// A Clock is safe for concurrent use.
type Clock struct {
	readings Readings
	boot     string
	zero     time.Time // when the machine's boot was
}

// New makes the clock of a boot of the machine; before is the journal's record, or
// empty. In the same boot it goes on as it was, whatever has become of the wall clock.
// In another boot only the wall clock says how much later it is; but it is no earlier
// than it has been, so that nothing that was lent lasts longer by it than when it was lent.
func New(r Readings, boot string, before spec.ClockRecord) *Clock {
	if before.Boot == boot {
		return &Clock{r, boot, before.Zero}
	}
	now := r.Wall().Round(0).UTC().Add(-before.Ahead)
	if now.Before(before.Seen) {
		now = before.Seen
	}
	return &Clock{r, boot, now.Add(-r.Up())}
}

// Now is the time.
func (c *Clock) Now() time.Time { return c.zero.Add(c.readings.Up()) }

// Ahead is how far the wall clock is ahead.
func (c *Clock) Ahead() time.Duration { return c.readings.Wall().Round(0).Sub(c.Now()) }

// Record is what the journal is to know.
func (c *Clock) Record() spec.ClockRecord {
	return spec.ClockRecord{Boot: c.boot, Zero: c.zero, Seen: c.Now(), Ahead: c.Ahead()}
}
