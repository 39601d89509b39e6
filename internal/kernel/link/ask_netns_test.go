//go:build netns

package link

import (
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// Whatever is asked long after the last question is answered: a handle lives as long as the daemon.
func TestAskedLater(t *testing.T) {
	var h *Handle
	testnet.New(t, "host").Do(t, func() {
		var err error
		if h, err = New(); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(h.Close)
	later := func() {
		t.Helper()
		if err := h.raw.SetDeadline(time.Now().Add(-time.Second)); err != nil { // as it is then
			t.Fatal(err)
		}
	}
	later()
	if _, err := h.list(t.Context()); err != nil {
		t.Error(err)
	}
	lo, err := h.find("lo")
	if err != nil {
		t.Fatal(err)
	}
	later()
	if err := h.seal(lo, sealFar); err != nil {
		t.Error(err)
	}
}
