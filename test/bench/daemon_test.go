//go:build bench

package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

const startTimeout = 30 * time.Second

// daemon is `v6net daemon` as a plain service of one host.
type daemon struct {
	host   *testnet.Host
	dir    string // of its journal, on the disk
	args   []string
	plugin *plugin
	cmd    *exec.Cmd
	log    bytes.Buffer // read when the process has ended
}

// newDaemon prepares a daemon with an empty journal.
func newDaemon(t *testing.T, host *testnet.Host) *daemon {
	t.Helper()
	return &daemon{host: host, dir: diskDir(t), plugin: newPlugin(filepath.Join(t.TempDir(), "v6net.sock"))}
}

// start starts the daemon and answers how long that took, until its plugin
// socket answered. It is killed at the end of the test, if it still runs then.
func (d *daemon) start(t *testing.T) time.Duration {
	t.Helper()
	d.log.Reset()
	d.cmd = d.host.Command(context.Background(), append([]string{
		built(t, "bin/v6net"), "daemon",
		"--state", filepath.Join(d.dir, "v6net.db"),
		"--plugin-socket", d.plugin.socket,
		"--control-socket", filepath.Join(filepath.Dir(d.plugin.socket), "control.sock"),
	}, d.args...)...)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	began := time.Now()
	if err := d.cmd.Start(); err != nil {
		t.Fatalf("start the daemon: %v", err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // stopped already, as a rule
		_ = d.cmd.Wait()
	})
	for {
		err := d.plugin.activate(t.Context())
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > startTimeout {
			t.Fatalf("the daemon does not answer: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
}

// kill ends the daemon as a crash does.
func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.cmd.Wait() // it was killed
}

// stop ends the daemon. What it logged as an error fails the test: a daemon in
// trouble is not what is to be measured.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Fatalf("the daemon: %v\n%s", err, d.log.String())
	}
	for line := range strings.Lines(d.log.String()) {
		if strings.Contains(line, "level=error") || strings.Contains(line, "level=warning") {
			t.Errorf("the daemon says: %s", line)
		}
	}
}

// memory is a line of /proc/PID/status that is a size, in MiB.
func (d *daemon) memory(t *testing.T, line string) float64 {
	t.Helper()
	kib, err := strconv.ParseFloat(strings.TrimSuffix(d.status(t, line), " kB"), 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

// status is a line of /proc/PID/status (proc_pid_status(5)).
func (d *daemon) status(t *testing.T, line string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(l, ":"); name == line {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s in /proc/PID/status", line)
	return ""
}

// cpu is the processor time of all the daemon's threads. Those that have ended
// are missing; Go keeps its threads.
func (d *daemon) cpu(t *testing.T) time.Duration {
	t.Helper()
	// Nanoseconds, where /proc/PID/stat has ticks of 10 ms.
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", d.cmd.Process.Pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of the daemon: %q, %v", files, err)
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		running, _, _ := strings.Cut(string(text), " ") // Documentation/scheduler/sched-stats.rst
		n, err := strconv.ParseInt(running, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(n)
	}
	return sum
}

// files is how many files the daemon has open.
func (d *daemon) files(t *testing.T) float64 {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return float64(len(open))
}
