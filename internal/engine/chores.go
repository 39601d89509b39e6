package engine

import (
	"cmp"
	"context"
	"slices"
	"time"
)

const (
	// settleTime is longer than a container engine takes from a pool's request to
	// its network or from an address's to its endpoint, and than it repeats a
	// call that was cut off.
	settleTime = time.Minute
	// restTime is for how long an address that was taken back is nobody's. The
	// container engine may release it yet: a release that was cut off is repeated,
	// and would hit the next one who has the address.
	restTime = 2 * time.Minute
	// uplinksWait is for a burst of links that change to be over.
	uplinksWait = 100 * time.Millisecond

	// seldomWait is between two times of what is done seldom.
	seldomWait = time.Second

	// What failed is done again after a while, twice as long each time.
	minHealWait = time.Second
	maxHealWait = time.Minute
)

// chore is something that falls due; it is done while Engine.mu is held.
type chore struct {
	due time.Time
	do  func()
}

// later puts a chore off. It is Run's to do it.
func (e *Engine) later(wait time.Duration, do func()) {
	c := chore{time.Now().Add(wait), do}
	i, _ := slices.BinarySearchFunc(e.chores, c, func(a, b chore) int { return cmp.Or(a.due.Compare(b.due), -1) })
	e.chores = slices.Insert(e.chores, i, c)
	if i == 0 {
		e.wakeUp()
	}
}

// turn is when something is done that others may have done all the time.
type turn struct {
	next time.Time // not before that
	put  bool      // off until then
}

// seldom does something at once, and what it is asked for in the same second once, at the end of
// that: it reads what the host has, and any neighbour's advertisements may be why.
func (e *Engine) seldom(t *turn, do func()) {
	if t.put {
		return
	}
	act := func() {
		*t = turn{next: time.Now().Add(seldomWait)}
		do()
	}
	if wait := time.Until(t.next); wait > 0 {
		t.put = true
		e.later(wait, act)
		return
	}
	act()
}

// wakeUp has Run look again at what is due first.
func (e *Engine) wakeUp() {
	select {
	case e.wake <- struct{}{}:
	default: // it is about to
	}
}

// doChores does what is due now, and answers for how long nothing more will be.
func (e *Engine) doChores(ctx context.Context, now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.chores) > 0 && !now.Before(e.chores[0].due) {
		c := e.chores[0]
		e.chores = slices.Delete(e.chores, 0, 1)
		c.do()
	}
	if !e.healDue.IsZero() && !now.Before(e.healDue) {
		e.followNames(ctx, e.whereabouts())
		e.reapply(ctx, e.degraded()...)
	}
	wait := time.Hour
	if len(e.chores) > 0 {
		wait = min(wait, time.Until(e.chores[0].due))
	}
	if !e.healDue.IsZero() {
		wait = min(wait, time.Until(e.healDue))
	}
	return max(wait, 0)
}
