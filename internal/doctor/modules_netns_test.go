//go:build netns

package doctor_test

import (
	"slices"
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/spec"
)

// The kernel is asked for what networks need, and a kind that none has is missing.
func TestModules(t *testing.T) {
	const nonsense = "v6netnonsense"
	s := newScene(t)
	s.look.Tried = []string{doctor.KindBridge, doctor.KindVeth, doctor.KindMacvlan, nonsense, doctor.NFTables}
	if got := s.facts(t).Missing; !slices.Equal(got, []string{nonsense}) {
		t.Errorf("the kernel lacks %q, want %s alone", got, nonsense)
	}
	if out := s.self.Run(t, "ip", "-o", "link", "show"); slices.Contains([]string{out}, "trial") {
		t.Errorf("a trial is left behind: %s", out)
	}

	// A kernel has ipvlan or not; whether it has is asked another way here.
	s.look.Tried = doctor.Tried()
	s.self.Run(t, "ip", "link", "add", "base", "type", "veth", "peer", "name", "base2")
	err := s.self.Command(t.Context(), "ip", "link", "add", "ipv0", "link", "base", "type", "ipvlan").Run()
	s.self.Run(t, "ip", "link", "del", "base")
	s.mended(t, "modules") // nothing needs it
	s.status.Networks[0].Options.Mode = spec.ModeIPvlan
	if err == nil {
		s.mended(t, "modules")
	} else if f := s.finds(t, "modules", doctor.Problem, "ipvlan"); f.Fix != "modprobe ipvlan" {
		t.Errorf("fix %q", f.Fix)
	}
}
