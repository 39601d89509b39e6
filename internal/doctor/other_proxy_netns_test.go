//go:build netns

package doctor_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/testnet"
)

// ndppd itself, in this namespace and in another one, which is somebody else's affair.
func TestOtherProxy(t *testing.T) {
	s := newScene(t)
	config := filepath.Join(t.TempDir(), "ndppd.conf")
	if err := os.WriteFile(config, []byte("proxy eth0 {\n rule 2001:db8:1::/64 {\n static\n }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(h *testnet.Host) (stop func()) {
		cmd := h.Command(context.Background(), "ndppd", "-c", config)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		testnet.Eventually(t, time.Minute, "nsenter becomes ndppd", func() bool {
			name, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "comm"))
			return err == nil && string(name) == "ndppd\n"
		})
		return func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	s.up.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
	s.up.Run(t, "ip", "link", "set", "dev", "eth0", "up")
	elsewhere := start(s.up)
	s.mended(t, "other_proxy")
	elsewhere()
	here := start(s.self)
	s.finds(t, "other_proxy", doctor.Warning, "ndppd")
	here()
	s.mended(t, "other_proxy")
}
