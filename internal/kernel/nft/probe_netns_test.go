//go:build netns

package nft

import (
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

// Whether frames are judged is known once the kernel has been probed: containers' ports
// are made anew at a start before the first ruleset is applied.
func TestProbeKnowsFrames(t *testing.T) {
	t.Parallel()
	host := testnet.New(t, "host")
	f := open(t, host)
	if err := f.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !f.probed || !f.JudgesPorts() {
		t.Errorf("frames are probed: %v, and judged: %v", f.probed, f.JudgesPorts())
	}
	if left := host.Run(t, "nft", "list", "tables"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}
