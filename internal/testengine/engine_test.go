//go:build engine

package testengine_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testengine"
	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }

// each runs a test on every release of the engine, one after another.
func each(t *testing.T, test func(t *testing.T, release string)) {
	for _, release := range testengine.Releases() {
		t.Run(release, func(t *testing.T) { test(t, release) })
	}
}

// A container on the default bridge serves the host, and is gone with the
// engine: interfaces, rules and cgroups.
func TestContainerOnDefaultBridge(t *testing.T) {
	each(t, func(t *testing.T, release string) {
		before := hostState(t)
		t.Run("engine", func(t *testing.T) {
			e := testengine.Start(t, testengine.Options{Release: release})
			e.CLI(t, "run", "-d", "--name", "web", e.Image(t))
			address := e.CLI(t, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
			if got := e.Host().Run(t, "curl", "-sS", "--retry-connrefused", "--retry", "5", "http://"+address+"/"); !strings.HasPrefix(got, "hello") {
				t.Errorf("container answers %q", got)
			}
		})
		for _, line := range hostState(t) {
			if !slices.Contains(before, line) {
				t.Errorf("the engine left: %s", line)
			}
		}
	})
}

// hostState lists what an engine could leave behind, a line for each thing.
func hostState(t *testing.T) []string {
	self := testnet.Self(t)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.Join([]string{
		self.Run(t, "ip", "-brief", "link"),
		self.Run(t, "nft", "list", "ruleset"),
		self.Run(t, "sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"),
		self.Run(t, "sh", "-c", "ls -d /sys/fs/cgroup/v6net-test-* /sys/fs/cgroup/*/v6net-test-* /run/testengine/* 2>/dev/null || true"),
		string(mounts),
	}, "\n"), "\n")
}

// Data outlives a restart; with live restore a running container does, too,
// even when the daemon is killed.
func TestRestart(t *testing.T) {
	each(t, func(t *testing.T, release string) {
		e := testengine.Start(t, testengine.Options{Release: release, LiveRestore: true})
		e.CLI(t, "run", "-d", "--name", "web", e.Image(t))
		started := e.CLI(t, "inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "web")
		e.Restart(t)
		e.Kill(t)
		e.Restart(t)
		if now := e.CLI(t, "inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "web"); now != started {
			t.Errorf("container started at %s, was %s before two restarts", now, started)
		}
		e.CLI(t, "exec", "web", "true")
		if e.Logs(t) == "" {
			t.Error("no log")
		}
	})
}

// Every release has a compose that reads files of the test.
func TestCompose(t *testing.T) {
	each(t, func(t *testing.T, release string) {
		e := testengine.Start(t, testengine.Options{Release: release})
		dir := t.TempDir()
		file := "version: '2.4'\nservices:\n  web:\n    image: " + e.Image(t) + "\n"
		if err := os.WriteFile(filepath.Join(dir, "docker-compose.yml"), []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
		e.Compose(t, dir, "up", "-d")
		if got := e.CLI(t, "ps", "-q"); got == "" {
			t.Error("compose started nothing")
		}
		e.Compose(t, dir, "down")
	})
}
