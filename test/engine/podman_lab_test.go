//go:build engine

package engine_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testengine"
)

// podmanOptions are a network's arguments for Docker in the words of Podman, which
// has one kind of option.
func podmanOptions(args []string) []string {
	var out []string
	for _, a := range args {
		if a == "--ipam-opt" {
			a = "-o"
		}
		out = append(out, a)
	}
	return out
}

// onPodman runs a test in a new lab with Podman, v6net's plugin in it, and the
// daemon as a plain service.
func onPodman(t *testing.T, test func(t *testing.T, l *lab, d *podmanDaemon)) {
	t.Helper()
	l := newLab(t)
	l.podman = testengine.StartPodman(t, l.host, built(t, "bin/netavark-v6net"))
	l.cli, l.image = l.podman, l.podman.Image(t)
	d := &podmanDaemon{lab: l, program: program(t), log: filepath.Join(t.TempDir(), "daemon.log")}
	d.start(t)
	t.Cleanup(func() { d.end(t) })
	test(t, l, d)
}

// podmanDaemon is the v6net daemon beside Podman, with its files.
type podmanDaemon struct {
	lab     *lab
	program string
	log     string

	handOver []*os.File // sockets, as systemd hands them over
	running  *exec.Cmd  // nil while stopped
}

// start starts the daemon and waits until it serves.
func (d *podmanDaemon) start(t *testing.T, args ...string) {
	t.Helper()
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	// Not t.Context: that ends before the cleanup, which removes networks.
	command := append([]string{"setpriv", "--bounding-set", "-all" + unitCapabilities(t), "--inh-caps", "-all", d.program, "daemon"}, args...)
	if len(d.handOver) > 0 {
		command = append([]string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=control exec "$@"`, "sh"}, command...)
	}
	d.running = d.lab.podman.Command(context.Background(), "/", command...)
	d.running.ExtraFiles = d.handOver
	d.running.Stdout, d.running.Stderr = log, log
	if err := d.running.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(longest); d.lab.onEngine(t.Context(), t, d.program, "status").Run() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the daemon does not come up:\n%s", d.logs(t))
		}
	}
}

// unitCapabilities are those of packaging/systemd/v6net.service, and no others, in the
// words of setpriv.
func unitCapabilities(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../packaging/systemd/v6net.service")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if names, ok := strings.CutPrefix(strings.TrimSpace(line), "CapabilityBoundingSet="); ok {
			return strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(names, " ", ""), "CAP_", ",+"))
		}
	}
	t.Fatal("the unit bounds no capabilities")
	return ""
}

func (d *podmanDaemon) logs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(d.log)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// end stops the daemon as a service manager does.
func (d *podmanDaemon) end(t *testing.T) {
	t.Helper()
	if d.running == nil {
		return
	}
	running := d.running
	d.running = nil
	if err := running.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := running.Wait(); err != nil {
		t.Errorf("the daemon ends with %v", err)
	}
	if t.Failed() {
		t.Logf("the daemon's log:\n%s", d.logs(t))
	}
}

// kill ends the daemon at once.
func (d *podmanDaemon) kill(t *testing.T) {
	t.Helper()
	running := d.running
	d.running = nil
	if err := running.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = running.Wait() // killed
}

// eventually waits for something that happens beside the test.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longest); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come about", what)
		}
	}
}

// hasNetwork reports whether the daemon has a network of that name.
func (l *lab) hasNetwork(ctx context.Context, t *testing.T, name string) bool {
	t.Helper()
	out, err := l.onEngine(ctx, t, program(t), "status", "--json").Output()
	if err != nil {
		t.Fatalf("v6net status: %v", err)
	}
	var status spec.Status
	if err := json.Unmarshal(out, &status); err != nil {
		t.Fatalf("v6net status: %v", err)
	}
	return slices.ContainsFunc(status.Networks, func(n spec.NetworkStatus) bool { return n.Name == name })
}
