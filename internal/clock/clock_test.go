package clock

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// machine has clocks that a test sets.
type machine struct {
	wall time.Time
	up   time.Duration
	boot string

	awake time.Duration
}

func (m *machine) pass(d time.Duration)  { m.sleep(d); m.awake += d }
func (m *machine) sleep(d time.Duration) { m.wall, m.up = m.wall.Add(d), m.up+d }

// start is that of a daemon with that record, as the journal gives it back.
func (m *machine) start(t *testing.T, before spec.ClockRecord) *Clock {
	t.Helper()
	text, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	var read spec.ClockRecord
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	return New(Readings{func() time.Time { return m.wall }, func() time.Duration { return m.up }, func() time.Duration { return m.awake }}, m.boot, read)
}

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func wantTime(t *testing.T, what string, c *Clock, want time.Time) {
	t.Helper()
	if got := c.Now(); !got.Equal(want) {
		t.Errorf("%s it is %s, want %s", what, got, want)
	}
}

// However the wall clock is set, an hour is an hour.
func TestWallClockIsSet(t *testing.T) {
	for _, step := range []time.Duration{-56 * 365 * 24 * time.Hour, -time.Minute, time.Minute, 56 * 365 * 24 * time.Hour} {
		m := &machine{wall: noon, up: 5 * time.Minute, boot: "first"}
		c := m.start(t, spec.ClockRecord{})
		wantTime(t, "at first", c, noon)
		m.pass(20 * time.Minute)
		m.wall = m.wall.Add(step)
		m.pass(20 * time.Minute)
		wantTime(t, "after the wall clock was set", c, noon.Add(40*time.Minute))
		if got := c.Ahead(); got != step {
			t.Errorf("the wall clock is ahead by %s, want %s", got, step)
		}
		record := c.Record()
		m.wall = m.wall.Add(-step / 2)
		m.pass(20 * time.Minute)
		wantTime(t, "for the next daemon", m.start(t, record), noon.Add(time.Hour))
	}
}

// In another boot the wall clock says how long the machine was away, by as much as it
// was off before; but time does not go back.
func TestAnotherBoot(t *testing.T) {
	const years = 56 * 365 * 24 * time.Hour
	for _, test := range []struct {
		name      string
		set, back time.Duration // the wall clock: in the first boot, and at the beginning of the second
		want      time.Time
	}{
		{"of a machine with a clock", 0, 0, noon.Add(2 * time.Hour)},
		{"after NTP had set it", years, 0, noon.Add(2 * time.Hour)},
		{"without a clock", 0, -years, noon.Add(time.Hour)},
		{"without a clock, which NTP had set", years, -years, noon.Add(time.Hour)},
	} {
		m := &machine{wall: noon, up: 5 * time.Minute, boot: "first"}
		c := m.start(t, spec.ClockRecord{})
		m.wall = m.wall.Add(test.set)
		m.pass(time.Hour)
		record := c.Record()
		m.pass(50 * time.Minute)
		m.up, m.boot, m.wall = 0, "second", m.wall.Add(test.back)
		m.pass(10 * time.Minute)
		c = m.start(t, record)
		wantTime(t, test.name, c, test.want)
		m.pass(time.Hour)
		wantTime(t, test.name+", an hour later", c, test.want.Add(time.Hour))
	}
}

// A sleep, or a clock that is set, casts doubt on what is lent, once; what a hypervisor
// corrects every minute does not.
func TestDoubt(t *testing.T) {
	m := &machine{wall: noon, boot: "first"}
	d := m.start(t, spec.ClockRecord{}).Doubt()
	for _, step := range []struct {
		what       string
		do         func()
		slept, set time.Duration
	}{
		{"time passes", func() { m.pass(time.Hour) }, 0, 0},
		{"the clock is corrected", func() { m.wall = m.wall.Add(3 * time.Second) }, 0, 0},
		{"and back", func() { m.wall = m.wall.Add(-5 * time.Second) }, 0, 0},
		{"the clock is set", func() { m.wall = m.wall.Add(time.Hour) }, 0, time.Hour - 2*time.Second},
		{"nothing more", func() { m.pass(time.Hour) }, 0, 0},
		{"the machine sleeps", func() { m.sleep(time.Hour) }, time.Hour, 0},
		{"the clock is set back", func() { m.wall = m.wall.Add(-time.Hour) }, 0, -time.Hour},
		{"it is corrected again and again", func() { m.wall = m.wall.Add(4 * time.Second) }, 0, 0},
		{"again", func() { m.wall = m.wall.Add(4 * time.Second) }, 0, 0},
		{"always forward", func() { m.wall = m.wall.Add(4 * time.Second) }, 0, 12 * time.Second},
	} {
		step.do()
		slept, set, ok := d.Arises()
		if slept != step.slept || set != step.set || ok != (step.slept != 0 || step.set != 0) {
			t.Errorf("%s: slept %s, set by %s, doubt %t; want %s and %s", step.what, slept, set, ok, step.slept, step.set)
		}
	}
}
