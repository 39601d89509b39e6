package engine

import (
	"context"
	"time"
)

// DoChores does what Run would have done by then.
func (e *Engine) DoChores(ctx context.Context, by time.Time) { e.doChores(ctx, by) }

// How long things take, for tests that let them pass.
const (
	SettleTime = settleTime
	RestTime   = restTime
)
