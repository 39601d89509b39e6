//go:build netns

package watch

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// setClock puts the machine's clock forward by a microsecond, or back: nobody notices,
// but who asks for it is told.
func setClock(t *testing.T, offset unix.Timeval) {
	t.Helper()
	if _, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_SETOFFSET, Time: offset}); err != nil {
		t.Fatal(err)
	}
}

func TestClockIsSet(t *testing.T) {
	c, err := OpenClock()
	if err != nil {
		t.Fatal(err)
	}
	forward, back := unix.Timeval{Usec: 1}, unix.Timeval{Sec: -1, Usec: 999_999}
	setClock(t, forward) // before anybody listens
	ctx, cancel := context.WithCancel(t.Context())
	told, ended := make(chan struct{}, 100), make(chan error)
	go func() { ended <- c.Run(ctx, func() { told <- struct{}{} }) }()
	for _, next := range []unix.Timeval{back, forward, back} {
		select {
		case <-told:
		case <-time.After(patience):
			t.Fatal("not told that the clock was set")
		}
		setClock(t, next)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run returned %v at the end of its context, want nil", err)
	}
}
