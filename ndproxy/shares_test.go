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
