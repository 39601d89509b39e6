package raguard

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// What a kernel cannot do is told from what goes wrong once.
func TestUnsupported(t *testing.T) {
	for answer, want := range map[unix.Errno]bool{
		unix.ENOSYS: true, unix.EINVAL: true, unix.EOPNOTSUPP: true, unix.EPERM: true,
		unix.ENOMEM: false, unix.ENODEV: false, unix.EAGAIN: false, unix.EMFILE: false, unix.ERANGE: false,
	} {
		err := unsupported(fmt.Errorf("load program: %w", answer))
		if got := errors.Is(err, ErrUnsupported); got != want || !errors.Is(err, answer) {
			t.Errorf("%v is unsupported: %v, want %v", err, got, want)
		}
	}
}
