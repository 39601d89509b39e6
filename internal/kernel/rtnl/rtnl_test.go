package rtnl_test

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/rtnl"
)

func TestIsAbsent(t *testing.T) {
	h, err := rtnl.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	_, unknown := h.LinkByName("absent0")
	for err, want := range map[error]bool{
		unknown:                             true,
		fmt.Errorf("find it: %w", unknown):  true,
		fmt.Errorf("set: %w", unix.ENODEV):  true,
		unix.EPERM:                          false,
		errors.New("Link absent0 is there"): false,
		nil:                                 false,
	} {
		if got := rtnl.IsAbsent(err); got != want {
			t.Errorf("IsAbsent(%v) = %t, want %t", err, got, want)
		}
	}
	if l, err := h.LinkByName("lo"); err != nil || l.Attrs().Index != 1 {
		t.Errorf("lo: %v, %v", l, err)
	}
}
