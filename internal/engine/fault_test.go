package engine_test

import (
	"context"
	"errors"
	"testing"
)

// callsOf counts the fallible calls of a stage.
func callsOf(t testing.TB, s stage, at func(testing.TB) *scene) int {
	t.Helper()
	sc := at(t)
	if err := s.do(t.Context(), sc); err != nil {
		t.Fatalf("without a fault: %v", err)
	}
	return len(sc.calls)
}

// afterRestart is the world without a stage's operation and with it, each after a start.
func afterRestart(t *testing.T, s stage, at func(testing.TB) *scene) (before, after snapshot) {
	t.Helper()
	undone := at(t)
	undone.restart(t)
	if s.unused {
		undone.settle(t)
	}
	before = undone.snapshot()
	done := at(t)
	must(t, s.do(t.Context(), done))
	done.restart(t)
	return before, done.snapshot()
}

// TestFaults lets every fallible call of every operation go wrong in turn. What
// failed has left nothing behind, or, if it removes something, completes when
// it is called again.
func TestFaults(t *testing.T) {
	eachStage(t, func(t *testing.T, s stage, at func(testing.TB) *scene) {
		done := at(t)
		must(t, s.do(t.Context(), done))
		after := done.snapshot()
		for k := range callsOf(t, s, at) {
			for _, m := range []mode{failBefore, failAfter, callerGone} {
				sc := at(t)
				before, status := sc.snapshot(), sc.engine.Status(t.Context())
				ctx, cancel := context.WithCancel(t.Context())
				sc.arm(fault{at: k + 1, mode: m, cancel: cancel})
				err := s.do(ctx, sc)
				cancel()
				what := "call " + sc.calls[k] + " " + string(m)
				sc.disarm()
				switch {
				case err == nil:
					if !s.chooses {
						sameWorld(t, what+", which did not matter", after, sc.snapshot())
					}
					continue
				case !errors.Is(err, errFault) && !errors.Is(err, context.Canceled):
					t.Errorf("%s: error %q hides its cause", what, err)
				case !sc.names(err):
					t.Errorf("%s: error %q does not name the object", what, err)
				}
				if !s.removal {
					sameWorld(t, what+": something was left behind", before, sc.snapshot())
					sameStatus(t, what+": something was left behind", status, sc.engine.Status(t.Context()))
				}
				if err := gone(s.do(t.Context(), sc)); err != nil {
					t.Errorf("%s: the second try: %v", what, err)
				}
				if !s.chooses {
					sameWorld(t, what+": after the second try", after, sc.snapshot())
				}
				sc.forgetUnused(t)
				sc.consistent(t, what+": after the second try")
				if t.Failed() {
					return
				}
			}
		}
	})
}

// TestKilled kills the daemon before and after every call of every operation.
// The next one brings the host to where it was before the operation or to where
// it would be after, and the operation can be repeated.
func TestKilled(t *testing.T) {
	eachStage(t, func(t *testing.T, s stage, at func(testing.TB) *scene) {
		before, after := afterRestart(t, s, at)
		n := callsOf(t, s, at)
		for k := range n {
			for _, m := range []mode{crashBefore, crashAfter} {
				sc := at(t)
				sc.arm(fault{at: k + 1, mode: m})
				if !dies(func() error { return s.do(t.Context(), sc) }) {
					t.Fatalf("call %d of %v did not happen", k+1, sc.calls)
				}
				what := "call " + sc.calls[k] + " " + string(m)
				sc.restart(t)
				if s.unused {
					sc.settle(t)
				}
				if s.unused || s.creates && (k < n-1 || m == crashBefore) {
					sameWorld(t, what+": not taken back, though nobody had an answer", before, sc.snapshot())
				}
				sc.oneOf(t, what, before, after)
				if err := gone(s.do(t.Context(), sc)); err != nil {
					t.Errorf("%s: repeating it: %v", what, err)
				}
				sc.restart(t)
				if !s.chooses {
					sameWorld(t, what+": repeated", after, sc.snapshot())
				}
				if t.Failed() {
					return
				}
			}
		}
	})
}

// TestKilledWhileStarting kills the next daemon too, before and after every call
// of its start: after each call of the operation every seventh one, so that seven
// calls in a row have them all, and all calls of a shorter operation together.
func TestKilledWhileStarting(t *testing.T) {
	eachStage(t, func(t *testing.T, s stage, at func(testing.TB) *scene) {
		before, after := afterRestart(t, s, at)
		n := callsOf(t, s, at)
		every := min(n, 7)
		for k := range n {
			for j := 1 + k%every; ; j += every {
				sc := at(t)
				sc.arm(fault{at: k + 1, mode: crashAfter})
				if !dies(func() error { return s.do(t.Context(), sc) }) {
					t.Fatalf("call %d of %v did not happen", k+1, sc.calls)
				}
				what := "killed after " + sc.calls[k]
				sc.arm(fault{at: j, mode: []mode{crashBefore, crashAfter}[j%2]})
				if !dies(func() error { return sc.start(t.Context()) }) {
					break
				}
				what += ", and at " + sc.calls[j-1] + " of the start"
				sc.restart(t)
				if s.unused {
					sc.settle(t)
					sameWorld(t, what+": not taken back, though nobody had an answer", before, sc.snapshot())
				}
				sc.oneOf(t, what, before, after)
				if t.Failed() {
					return
				}
			}
		}
	})
}

// dies reports whether f ended in a crash.
func dies(f func() error) (died bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ours := r.(killed); !ours {
				panic(r)
			}
			died = true
		}
	}()
	_ = f() // what it would have answered, nobody hears
	return false
}

// oneOf fails the test where the world is in neither of two states.
func (s *scene) oneOf(t testing.TB, what string, before, after snapshot) {
	t.Helper()
	now := s.snapshot()
	if equalWorlds(now, before) || equalWorlds(now, after) {
		return
	}
	sameWorld(t, what+": neither as before", before, now)
	sameWorld(t, what+": nor as after", after, now)
}
