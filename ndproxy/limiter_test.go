package ndproxy

import (
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	now := time.Now()
	l := newLimiter(10, 3, now)
	taken := func() (n int) {
		for l.allow(now) {
			n++
		}
		return n
	}
	for _, step := range []struct {
		wait time.Duration
		want int
	}{{0, 3}, {0, 0}, {50 * time.Millisecond, 0}, {50 * time.Millisecond, 1}, {200 * time.Millisecond, 2}, {time.Hour, 3}} {
		now = now.Add(step.wait)
		if got := taken(); got != step.want {
			t.Errorf("after %v more: %d allowed, want %d", step.wait, got, step.want)
		}
	}
}
