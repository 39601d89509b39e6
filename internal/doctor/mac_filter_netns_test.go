//go:build netns

package doctor_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/spec"
)

// What the firmware says is a folder of the machine's, and another one here.
func TestMACFilter(t *testing.T) {
	s := newScene(t)
	s.status.Networks[0].Options.Mode, s.status.Networks[0].Options.MacvlanMode = spec.ModeMacvlan, spec.MacvlanBridge
	s.look.Firmware = t.TempDir()
	says := func(vendor string) {
		if err := os.WriteFile(filepath.Join(s.look.Firmware, "sys_vendor"), []byte(vendor+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.mended(t, "mac_filter") // a machine that says nothing
	says("Dell Inc.")
	s.mended(t, "mac_filter")
	says("Amazon EC2")
	s.finds(t, "mac_filter", doctor.Problem, "AWS", "(sure:")
	says("Hetzner")
	s.finds(t, "mac_filter", doctor.Warning, "Hetzner", "likely")
	says("QEMU")
	s.finds(t, "mac_filter", doctor.Warning, "not sure")
	s.status.Networks[0].Options.Mode = spec.ModeBridge
	s.mended(t, "mac_filter")
}
