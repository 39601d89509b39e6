package dump_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/v6net/v6net/internal/kernel/dump"
	"github.com/vishvananda/netlink"
)

func TestRetry(t *testing.T) {
	failure := errors.New("no buffer space")
	interrupted := fmt.Errorf("list links: %w", netlink.ErrDumpInterrupted)
	for name, c := range map[string]struct {
		answers []error // the last one repeats
		want    error
		calls   int
	}{
		"whole at once":          {[]error{nil}, nil, 1},
		"whole after two":        {[]error{interrupted, interrupted, nil}, nil, 3},
		"other failure":          {[]error{failure}, failure, 1},
		"failure after a retry":  {[]error{interrupted, failure}, failure, 2},
		"interrupted every time": {[]error{interrupted}, netlink.ErrDumpInterrupted, 20},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			got, err := dump.Retry(t.Context(), func() (int, error) {
				answer := c.answers[min(calls, len(c.answers)-1)]
				calls++
				return calls, answer
			})
			if !errors.Is(err, c.want) || calls != c.calls {
				t.Errorf("%v after %d calls, want %v after %d", err, calls, c.want, c.calls)
			}
			if want := c.calls; err == nil && got != want {
				t.Errorf("answer of call %d, want of call %d", got, want)
			}
			if err != nil && got != 0 {
				t.Errorf("a list that is not whole was returned: %d", got)
			}
		})
	}
}

func TestRetryEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	_, err := dump.Retry(ctx, func() (int, error) {
		calls++
		cancel()
		return 0, netlink.ErrDumpInterrupted
	})
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("%v after %d calls, want context.Canceled after 1", err, calls)
	}
}
