//go:build netns

package ip6tables

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/testnet"
)

// A daemon that is killed between the two writes of CanLog leaves a chain, which the next
// one removes, whether it has rules or sweeps.
func TestLeftProbeGoes(t *testing.T) {
	testnet.Self(t)
	f, err := New(t.Context(), slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(f.Remove(context.Background()), f.Close()); err != nil {
			t.Error(err)
		}
	})
	r, err := firewall.Build(firewall.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for what, remove := range map[string]func() error{
		"Apply": func() error { return f.Apply(t.Context(), r) },
		"Sweep": func() error { return Sweep(t.Context(), nil) },
	} {
		for _, fam := range families {
			if err := f.space.write(t.Context(), f.programs, fam, "*mangle\n:"+probeChain+" - [0:0]\n-A "+probeChain+" -j NFLOG\nCOMMIT\n"); err != nil {
				t.Fatal(err)
			}
		}
		if err := remove(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, fam := range families {
			out, err := exec.Command(names[fam]+"-"+f.Variant()+"-save", "-t", "mangle").CombinedOutput()
			if err != nil || strings.Contains(string(out), probeChain) {
				t.Errorf("%s leaves (%v):\n%s", what, err, out)
			}
		}
		if err := f.CanLog(t.Context()); err != nil {
			t.Errorf("after %s: %v", what, err)
		}
	}
}
