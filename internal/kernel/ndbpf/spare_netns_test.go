//go:build netns

package ndbpf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

// What is loaded ahead the first link takes, others load their own, also where nobody has
// taken it in time, and nothing of it stays.
func TestSpare(t *testing.T) {
	testnet.Connect(t, testnet.Self(t), "eth0", testnet.New(t, "up"), "lan0")
	before := loadedObjects(t)
	s := LoadAhead()
	conn := func(s *Spare) *Conn {
		dialed, err := s.Dial(t.Context(), "eth0")
		return loaded(t, dialed, err)
	}
	first := conn(s)
	ofOne := loadedObjects(t) - before
	second := conn(s)
	if ofTwo := loadedObjects(t) - before; ofOne == 0 || ofTwo != 2*ofOne {
		t.Errorf("programs and tables: %d of one link, %d of two", ofOne, ofTwo)
	}
	late := LoadAhead()
	if err := errors.Join(first.Close(), second.Close(), s.Close(), late.Close(), (*Spare)(nil).Close()); err != nil {
		t.Error(err)
	}
	third := conn(late)
	if n := loadedObjects(t) - before; n != ofOne {
		t.Errorf("a link that comes late has %d programs and tables, want %d", n, ofOne)
	}
	if err := errors.Join(third.Close(), late.Close()); err != nil {
		t.Error(err)
	}
	if left := loadedObjects(t) - before; left != 0 {
		t.Errorf("%d programs and tables are left", left)
	}
}

// loadedObjects are how many programs and tables this process holds.
func loadedObjects(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if what, err := os.Readlink(f); err == nil && strings.HasPrefix(what, "anon_inode:bpf") {
			n++
		}
	}
	return n
}
