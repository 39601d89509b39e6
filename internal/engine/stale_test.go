package engine

import (
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// A container whose namespace v6net does not see, and one that it must not enter: only
// the first is mended by mounts.
func TestStaleWordsNameTheMend(t *testing.T) {
	for _, tc := range []struct {
		why  error
		mend bool
	}{{fmt.Errorf("no network namespace here: %w", fs.ErrNotExist), true}, {syscall.EPERM, false}} {
		ep := &endpoint{stale: tc.why}
		if words := ep.staleWords(); strings.Contains(words, "--make-rshared") != tc.mend || !strings.Contains(words, tc.why.Error()) {
			t.Errorf("%v: %s", tc.why, words)
		}
	}
}
