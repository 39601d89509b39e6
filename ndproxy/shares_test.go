package ndproxy

import (
	"testing"
	"time"
)

func TestShares(t *testing.T) {
	s := newShares(100, 50) // bursts of 10 and 5
	var now time.Duration
	taken := func(from [6]byte) (n int) {
		for s.take(from, now) {
			n++
		}
		return n
	}
	other := stranger
	for i := byte(0); other == stranger || s.take(neighbor, 0) && i == 0; i++ { // one with another share
		other[5] = i
		break
	}
	s = newShares(100, 50)
	for _, step := range []struct {
		wait time.Duration
		from [6]byte
		want int
	}{
		{0, neighbor, 5}, {0, neighbor, 0}, // its own share is used up,
		{0, other, 5}, {0, router, 0}, // the others' is not, until that of all is
		{10 * time.Millisecond, neighbor, 0}, {10 * time.Millisecond, neighbor, 1},
		{time.Hour, neighbor, 5},
	} {
		now += step.wait
		if got := taken(step.from); got != step.want {
			t.Errorf("after %v more, %x takes %d answers, want %d", step.wait, step.from, got, step.want)
		}
	}
}

// At a rate below one in a burst's time there are fewer answers, and not none.
func TestLowRates(t *testing.T) {
	for _, rate := range []int{1, 5, 9, 10, 11} {
		for name, s := range map[string]*shares{"of one": newShares(1000, rate), "of all": newShares(rate, 1000)} {
			answers := 0
			for i := range 1000 { // a question every 100 ms
				if s.take(neighbor, time.Duration(i)*100*time.Millisecond) {
					answers++
				}
			}
			if most := rate*100 + 1; answers > most || answers < min(most, 1000)/2 {
				t.Errorf("%d/s %s: %d answers in 100 s, want about %d", rate, name, answers, min(most, 1000))
			}
		}
	}
}

func TestRates(t *testing.T) {
	for k, want := range map[Knobs][2]int{
		{}:                           {DefaultRate, DefaultRate / 2},
		{Rate: 1000}:                 {1000, 500},
		{Rate: 1}:                    {1, 1},
		{SourceRate: 7}:              {DefaultRate, 7},
		{Rate: 10, SourceRate: 1000}: {10, 1000},
	} {
		if all, source := k.Rates(); all != want[0] || source != want[1] {
			t.Errorf("%+v: %d and %d for one solicitor, want %v", k, all, source, want)
		}
	}
}
