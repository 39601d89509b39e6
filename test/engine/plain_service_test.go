//go:build engine

package engine_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testengine"
)

// v6net without a managed plugin: a program on the host, which the engine finds
// by its socket.
func TestPlainService(t *testing.T) {
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		before := hostState(t, l.host)
		t.Run("service", func(t *testing.T) { testPlainService(t, l) })
		mustEqual(t, "service stopped", before, hostState(t, l.host))
	})
}

func testPlainService(t *testing.T, l *lab) {
	s := l.service(t)
	s.start(t)
	t.Cleanup(func() { s.end(t) })
	l.anyNetwork(t, "web", "-d", "v6net", "--ipam-driver", "v6net", "--ipv6")
	l.containerWith(t, "web", echoCommand, "--network", "web", "-p", "7:7", "-p", "8080:80")
	address := l.ipv6(t, "web", "web")
	mustFetch(t, l.far, bracket(address))

	if out := l.host.Run(t, program(t), "status"); !strings.Contains(out, address) {
		t.Errorf("v6net status does not show %s:\n%s", address, out)
	}
	if out := l.host.Run(t, program(t), "status", "--json"); !strings.Contains(out, `"`+address+`"`) {
		t.Errorf("v6net status --json does not show %s:\n%s", address, out)
	}

	t.Run("second daemon", func(t *testing.T) {
		other := &service{lab: l, program: s.program, socket: filepath.Join(t.TempDir(), "plugin.sock"), state: filepath.Join(t.TempDir(), "v6net.db")}
		out, err := other.command(t.Context()).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "another v6net daemon runs in this network namespace") {
			t.Errorf("a second daemon: %v: %s", err, out)
		}
		if status := (*exec.ExitError)(nil); !errors.As(err, &status) || status.ExitCode() != 69 { // RestartPreventExitStatus=
			t.Errorf("a second daemon ends with %v, want status 69", err)
		}
		mustFetch(t, l.far, bracket(address)) // the first has not noticed
	})
	t.Run("restarted", func(t *testing.T) {
		talk := converse(t, l.far, bracket(address)+":7")
		s.end(t)
		out, err := l.host.Command(t.Context(), program(t), "status").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "no v6net daemon answers") {
			t.Errorf("v6net status without a daemon: %v: %s", err, out)
		}
		mustFetch(t, l.far, hostIPv4+":8080")
		s.start(t)
		l.container(t, "other", "--network", "web")
		mustFetch(t, l.host, bracket(l.ipv6(t, "other", "web")))
		talk.mustHaveGoneOn(t, unnoticed)
	})
}

// service is one that the lab's engine finds.
func (l *lab) service(t *testing.T) *service {
	t.Helper()
	return &service{
		lab:     l,
		program: program(t),
		socket:  filepath.Join(l.engine.RunDir(), "docker/plugins/v6net.sock"), // /run/docker/plugins of the engine
		state:   filepath.Join(t.TempDir(), "v6net.db"),
	}
}

// service is a v6net daemon on the host.
type service struct {
	lab     *lab
	program string
	socket  string // where the engine looks for it
	state   string
	env     []string     // besides this process'
	log     bytes.Buffer // read after the end
	running *exec.Cmd    // nil while stopped
}

func (s *service) command(ctx context.Context) *exec.Cmd {
	cmd := s.lab.host.Command(ctx, s.program, "daemon", "--plugin-socket", s.socket, "--state", s.state)
	cmd.Env = append(os.Environ(), s.env...)
	return cmd
}

// start starts the daemon and waits until it serves.
func (s *service) start(t *testing.T) {
	t.Helper()
	// Not t.Context: that ends before the cleanup, which removes the network.
	s.running = s.command(context.Background())
	s.running.Stdout, s.running.Stderr = &s.log, &s.log
	if err := s.running.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(longest); s.lab.host.Command(t.Context(), s.program, "status").Run() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.end(t)
			t.Fatalf("the daemon does not come up:\n%s", &s.log)
		}
	}
}

// end stops the daemon as a service manager does.
func (s *service) end(t *testing.T) {
	t.Helper()
	if s.running == nil {
		return
	}
	if err := s.running.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := s.running.Wait(); err != nil {
		t.Errorf("the daemon ends with %v:\n%s", err, &s.log)
	}
	s.running = nil
	if _, err := os.Stat(s.socket); err == nil {
		t.Error("the daemon leaves its socket")
	}
}
