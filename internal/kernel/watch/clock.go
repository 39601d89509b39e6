package watch

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Clock tells that the wall clock was set, or that the machine has slept.
type Clock struct{ timer *os.File }

// OpenClock begins to watch the clock: what happens from now on Run tells.
func OpenClock() (*Clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch the clock: %w", err)
	}
	c := &Clock{os.NewFile(uintptr(fd), "timerfd")}
	if err := c.wind(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// wind sets the timer to a time that never comes; it is there to be cancelled when
// the clock is set (timerfd_create(2)).
func (c *Clock) wind() error {
	raw, err := c.timer.SyscallConn()
	if err != nil {
		return err
	}
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: 1 << 40}}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil)
	})
	if set != nil && !errors.Is(set, unix.ECANCELED) { // it was set meanwhile, and the timer with it
		err = fmt.Errorf("watch the clock: %w", set)
	}
	return err
}

// Close ends the watch, and a Run.
func (c *Clock) Close() error { return c.timer.Close() }

// Run calls changed whenever the clock was set, until ctx ends; then it returns nil.
// It closes the watch.
func (c *Clock) Run(ctx context.Context, changed func()) error {
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	for {
		_, err := c.timer.Read(make([]byte, 8))
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, unix.ECANCELED) {
			return fmt.Errorf("watch the clock: %w", err)
		}
		if err := c.wind(); err != nil {
			return err
		}
		changed()
	}
}
