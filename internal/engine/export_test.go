package engine

import (
	"context"
	"time"
)

// DoChores does what Run would have done by then.
func (e *Engine) DoChores(ctx context.Context, by time.Time) { e.doChores(ctx, by) }

// SendAnnouncements sends those that Run would have sent by now.
func (e *Engine) SendAnnouncements(ctx context.Context) { e.sendAnnouncements(ctx) }

// ProbeParts probes what Run would have probed by now.
func (e *Engine) ProbeParts(ctx context.Context) { e.probeParts(ctx) }

// LinksDown is how many links the engine remembers as down.
func (e *Engine) LinksDown() int { return len(e.down) }

// How long things take, for tests that let them pass.
const (
	SettleTime = settleTime
	RestTime   = restTime
	AbsentTime = absentTime
	DepartTime = departTime
	TakenTime  = takenTime
	SeldomWait = seldomWait
)
