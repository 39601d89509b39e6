//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/event"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// systemdSocket is a plain service's socket that systemd holds: calls are counted, each
// of which would start the daemon, unless they are for one that runs.
type systemdSocket struct {
	net.Listener
	calls atomic.Int32
	given chan net.Conn
}

func newSystemdSocket(t *testing.T) *systemdSocket {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(control.SocketPath), 0o755); err != nil { // of the test's own /run
		t.Fatal(err)
	}
	l, err := net.Listen("unix", control.SocketPath)
	if err != nil {
		t.Fatal(err)
	}
	s := &systemdSocket{Listener: l, given: make(chan net.Conn, 16)}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(s.given)
				return
			}
			s.calls.Add(1)
			s.given <- c
		}
	}()
	return s
}

// daemon is one that is started for the socket.
type activated struct {
	*systemdSocket
	ended chan struct{}
}

func (a activated) Accept() (net.Conn, error) {
	select {
	case c, ok := <-a.given:
		if !ok {
			return nil, net.ErrClosed
		}
		return c, nil
	case <-a.ended:
		return nil, net.ErrClosed
	}
}

func (a activated) Close() error { return nil } // it is systemd's

// looked is a daemon without an engine.
type looked struct{ control.Engine }

func (looked) Describe([]spec.Event) {}

// A daemon that its administrator has stopped is not started by who looks whether it is
// there: neither by doctor, nor by watch --retry while it is stopped and afterwards.
func TestStoppedDaemonsStayStopped(t *testing.T) {
	socket := newSystemdSocket(t)
	if r, _ := doctorReport(t); checksOf(r) != "daemon default_route" {
		t.Errorf("without a daemon doctor finds %q", checksOf(r))
	}
	if n := socket.calls.Load(); n != 0 {
		t.Fatalf("doctor calls %d times at the socket of a daemon that is stopped", n)
	}

	events := &event.Hub{}
	start := func() (end func(), release func() error) {
		release, err := netns.Claim(claimName)
		if err != nil {
			t.Fatal(err)
		}
		a := activated{socket, make(chan struct{})}
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- control.Serve(ctx, a, looked{}, events, slog.New(slog.DiscardHandler)) }()
		return func() {
			cancel()
			close(a.ended)
			if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}, release
	}
	end, release := start()
	watch := startProgram(t, testnet.Self(t), "watch --retry")
	t.Cleanup(func() {
		watch.signal(syscall.SIGKILL)
		_ = watch.wait() // it may have ended before
	})
	seen := func(what string) func() bool {
		return func() bool {
			events.Publish(spec.Event{Type: spec.EventLease, What: what})
			return watch.said("lease", what) > 0
		}
	}
	within(t, "it is watched", seen("first"))
	calls := socket.calls.Load()
	end()
	within(t, "the end is said", func() bool { return watch.said("waiting for the next one") == 1 })
	time.Sleep(retryWait * 3 / 2) // which is how often it looks: the daemon is still ending
	if err := release(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(retryWait * 3 / 2)
	if n := socket.calls.Load(); n != calls {
		t.Errorf("watch calls %d times at the socket of a daemon that ends, or has ended", n-calls)
	}
	end, release = start()
	within(t, "the next one is watched", seen("second"))
	end()
	if err := release(); err != nil {
		t.Error(err)
	}
}

// Systemd's socket, and another daemon that runs: what waits there is answered, and the
// daemon that was started for it ends.
func TestSocketBesideAnotherDaemon(t *testing.T) {
	release, err := netns.Claim(claimName)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = release() }()
	path := filepath.Join(t.TempDir(), "v6net.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	file, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	answers := make(chan error, 20)
	for range cap(answers) {
		go func() {
			_, err := control.NewClient(path).Status(t.Context())
			answers <- err
		}()
	}
	within(t, "all of them wait at the socket", func() bool {
		socket := strings.Fields(testnet.Self(t).Run(t, "ss", "-xlH", "src", path))
		return len(socket) > 2 && socket[2] == fmt.Sprint(cap(answers)) // Recv-Q
	})
	daemon := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	daemon.Env = append(os.Environ(), argsEnv+"=daemon", "LISTEN_FDS=1", "LISTEN_FDNAMES="+controlListener)
	daemon.ExtraFiles = []*os.File{file}
	if out, err := daemon.CombinedOutput(); daemon.ProcessState.ExitCode() != exitClaimed {
		t.Errorf("the daemon ends with %v, want status %d:\n%s", err, exitClaimed, out)
	}
	for range cap(answers) {
		if err := <-answers; err == nil || !strings.Contains(err.Error(), "the daemon answered: claim v6net: another v6net daemon runs") || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			t.Errorf("who waited is told %v", err)
		}
	}
}

// A plugin's daemon is found without a call at the socket by which systemd would start another.
func TestPluginIsFoundBeforeSystemdsSocket(t *testing.T) {
	socket := newSystemdSocket(t)
	plugin := filepath.Join(filepath.Dir(control.PluginSocket), "abc", filepath.Base(control.PluginSocket))
	l, err := control.Listen(plugin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if path, err := control.FindSocket(); path != plugin || err != nil || socket.calls.Load() != 0 {
		t.Errorf("found is %q, %v, after %d calls at systemd's socket; want %s and none", path, err, socket.calls.Load(), plugin)
	}
}

// A daemon that replays its journal has its claim and no socket yet: it is waited for, and said to
// start if that takes longer.
func TestStartingDaemonIsWaitedFor(t *testing.T) {
	if _, err := findSocket(t.Context()); !errors.Is(err, control.ErrNoDaemon) || strings.Contains(err.Error(), "starts") {
		t.Errorf("without a daemon: %v", err)
	}
	release, err := netns.Claim(claimName)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = release() }()
	ctx, cancel := context.WithTimeout(t.Context(), 2*findWait)
	defer cancel()
	if _, err := findSocket(ctx); !errors.Is(err, control.ErrNoDaemon) || !strings.Contains(err.Error(), "one starts") {
		t.Errorf("while it starts: %v", err)
	}
	time.AfterFunc(3*findWait, func() { newSystemdSocket(t) })
	if path, err := findSocket(t.Context()); path != control.SocketPath || err != nil {
		t.Errorf("when it has started: %q, %v", path, err)
	}
}
