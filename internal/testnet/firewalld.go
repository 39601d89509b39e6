package testnet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// busConfig is a bus on which everybody may do all.
const busConfig = `<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>`

// firewalldTime is how long firewalld, which is a large program, may take for something.
const firewalldTime = 90 * time.Second

// Firewalld is a host's D-Bus and firewalld, with what is configured by default.
type Firewalld struct {
	host   *Host
	socket string
	config string    // folder
	daemon *exec.Cmd // nil while stopped
	end    context.CancelFunc
}

// NewFirewalld starts a bus on a socket until the end of the test, and no firewalld yet.
func NewFirewalld(t testing.TB, host *Host, socket string) *Firewalld {
	t.Helper()
	f := &Firewalld{host: host, socket: socket, config: t.TempDir()}
	bus := filepath.Join(t.TempDir(), "bus.conf")
	if err := os.WriteFile(bus, fmt.Appendf(nil, busConfig, socket), 0o644); err != nil {
		t.Fatal(err)
	}
	dirs := []string{filepath.Dir(socket)}
	for _, sub := range []string{"zones", "policies", "services", "icmptypes", "ipsets", "helpers"} {
		dirs = append(dirs, filepath.Join(f.config, sub))
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, end := context.WithCancel(context.Background())
	daemon := f.run(ctx, t, "dbus-daemon", "--config-file="+bus, "--nofork", "--nopidfile")
	t.Cleanup(func() { end(); _ = daemon.Wait() })
	Eventually(t, firewalldTime, "a bus", func() bool { _, err := os.Stat(socket); return err == nil })
	return f
}

// Env is what leads programs to the bus.
func (f *Firewalld) Env() string { return "DBUS_SYSTEM_BUS_ADDRESS=" + f.Bus() }

// Bus is its address.
func (f *Firewalld) Bus() string { return "unix:path=" + f.socket }

// run starts a program, which is told to end when ctx does.
func (f *Firewalld) run(ctx context.Context, t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := f.host.Command(ctx, args...)
	cmd.Env = append(os.Environ(), f.Env())
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = firewalldTime
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// Start starts firewalld, and waits for it. At the end of the test it is stopped.
func (f *Firewalld) Start(t testing.TB) {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	f.end = end
	f.daemon = f.run(ctx, t, "firewalld", "--nofork", "--nopid", "--system-config", f.config, "--log-target", "console")
	t.Cleanup(func() { f.Stop(t) })
	Eventually(t, firewalldTime, "firewalld runs", func() bool {
		out, _ := f.try(t, "--state")
		return out == "running"
	})
}

// Stop stops it, if it runs, as a service manager does: it takes its rules along.
func (f *Firewalld) Stop(t testing.TB) {
	t.Helper()
	if f.daemon == nil {
		return
	}
	f.end()
	_ = f.daemon.Wait() // it was told to end
	f.daemon = nil
}

// Cmd is firewall-cmd. On a busy machine it is called again, which changes nothing where
// firewalld has done it and was only slow to say so.
func (f *Firewalld) Cmd(t testing.TB, args ...string) string {
	t.Helper()
	out, err := f.try(t, args...)
	for deadline := time.Now().Add(firewalldTime); err != nil && strings.Contains(out, "Did not receive a reply") && time.Now().Before(deadline); {
		out, err = f.try(t, args...)
	}
	if err != nil {
		t.Fatalf("firewall-cmd %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func (f *Firewalld) try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := f.host.Command(t.Context(), append([]string{"firewall-cmd"}, args...)...)
	cmd.Env = append(os.Environ(), f.Env())
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
