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
	// Awake is a time that stands still while the machine sleeps.
	Awake func() time.Duration
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

// leastDoubt is how much may be amiss for all to be as it was: some hypervisors set the
// clock every minute.
const leastDoubt = 10 * time.Second

// A Doubt finds out whether the machine has slept or its clock was set, by more than is
// of no account. It is one goroutine's.
type Doubt struct {
	clock     *Clock
	up, awake time.Duration
	ahead     time.Duration
}

// Doubt begins now.
func (c *Clock) Doubt() *Doubt {
	return &Doubt{c, c.readings.Up(), c.readings.Awake(), c.Ahead()}
}

// Arises reports how long the machine has slept and by how much its clock was set since it
// was last reported; nothing is reported while both are of no account.
func (d *Doubt) Arises() (slept, set time.Duration, ok bool) {
	now := d.clock.Doubt()
	slept, set = (now.up-d.up)-(now.awake-d.awake), now.ahead-d.ahead
	if slept < leastDoubt && set.Abs() < leastDoubt {
		return 0, 0, false
	}
	*d = *now
	return slept, set, true
}
