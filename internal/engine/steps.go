package engine

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// undoTimeout bounds the way back, which runs even when the caller has gone. With
// the driver's own deadline it is below the 30 s that the Docker engine waits.
const undoTimeout = 5 * time.Second

// step is one change with its way back. Both are idempotent; undo is nil where
// there is nothing to take back.
type step struct {
	what string
	do   func(context.Context) error
	undo func(context.Context) error
}

// run makes the steps in order. When one fails it undoes that one, which may
// have come half-way, and all before it, in reverse.
func run(ctx context.Context, steps []step) error {
	for i, s := range steps {
		err := ctx.Err()
		if err == nil {
			err = s.do(ctx)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", s.what, err), undo(ctx, steps[:i+1]))
		}
	}
	return nil
}

// undo takes the steps back in reverse. It ends at one that cannot be taken back:
// what was done before it, a journal's record say, is how it is found again.
func undo(ctx context.Context, steps []step) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	for i := len(steps) - 1; i >= 0; i-- {
		if s := steps[i]; s.undo != nil {
			if err := s.undo(ctx); err != nil {
				return fmt.Errorf("undo %s: %w", s.what, err)
			}
		}
	}
	return nil
}
