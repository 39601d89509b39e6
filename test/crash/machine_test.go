//go:build netns

package crash_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testcrash"
	"github.com/v6net/v6net/internal/testnet"
)

// patience is for what needs a moment on a machine that has other work, too. It is less than
// the minute after which the daemon does what is left over (engine.settleTime), which is to
// come about before.
const patience = 30 * time.Second

// machine is a host with the daemon, on a link to a router.
type machine struct {
	t         testing.TB
	host, up  *testnet.Host
	container *testnet.Host // the sandbox of its one container
	dir       string        // of the journal, the sockets, the log
	args      []string      // more ones of the daemon's
	by        []string      // a command that runs it; none: it is run as it is
	uncounted bool          // the daemon runs at its own speed, and is killed at no point
	docker    *docker
	metadata  *metadata // nil: it is in no cloud
	daemon    *testcrash.Process
	control   *control.Client
	own       *strings.Replacer // what is another one on the next machine

	// cut is called when the daemon has gone in the middle of a call. It starts it again,
	// and says whether the call is repeated.
	cut func() (again bool)
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "machine")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, host: testnet.New(t, "host"), up: testnet.New(t, "up"), container: testnet.New(t, "container")}
	testnet.Connect(t, m.host, "eth0", m.up, "lan0")
	m.host.AddAddress(t, "2001:db8:1::2/64", "eth0")
	m.up.AddAddress(t, "2001:db8:1::1/64", "lan0")
	m.host.Run(t, "ip", "route", "add", "default", "via", "2001:db8:1::1", "dev", "eth0")
	m.nameOwn()
	m.docker = newDocker(m, filepath.Join(dir, "v6net.sock"))
	m.control = control.NewClient(m.controlSocket())
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			log, _ := os.ReadFile(m.log())
			t.Logf("the end of what the daemon says:\n%s", log[max(0, len(log)-6000):])
		}
		_ = os.RemoveAll(dir)
	})
	return m
}

// nameOwn takes in what is another one on the next machine, or after its link was made anew.
func (m *machine) nameOwn() {
	m.own = strings.NewReplacer(m.host.MAC(m.t, "eth0"), "MAC", m.host.LinkLocal(m.t, "eth0"), "LINKLOCAL", m.up.MAC(m.t, "lan0"), "ROUTERMAC", m.dir, "DIR", m.container.Path(), "SANDBOX", "2001:db8:c::3", "2001:db8:c::2")
}

func (m *machine) controlSocket() string { return filepath.Join(m.dir, "control.sock") }
func (m *machine) journal() string       { return filepath.Join(m.dir, "state", "v6net.db") }
func (m *machine) metrics() string       { return filepath.Join(m.dir, "metrics.sock") }
func (m *machine) log() string           { return filepath.Join(m.dir, "log") }
func (m *machine) podman() string        { return filepath.Join(m.dir, "networks") }

// start starts the daemon, which is killed before the kill'th change that it makes, and
// waits until it serves. It answers false if it was killed first.
func (m *machine) start(kill int) bool {
	m.t.Helper()
	log, err := os.OpenFile(m.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	if err := os.MkdirAll(m.podman(), 0o755); err != nil {
		m.t.Fatal(err)
	}
	cmd := m.host.Command(context.Background(), m.command()...)
	cmd.Stdout, cmd.Stderr = log, log
	if m.uncounted {
		m.daemon, err = testcrash.Run(cmd)
	} else {
		m.daemon, err = testcrash.Start(cmd, m.log(), kill)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		// Listening is the last that a start does.
		c, err := net.Dial("unix", m.controlSocket())
		if err == nil {
			_ = c.Close()
			return true
		}
		select {
		case <-m.daemon.Ended():
			if _, killed := m.daemon.Points(); !killed {
				m.t.Fatal("the daemon ended by itself")
			}
			return false
		default:
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("the daemon does not serve: %v", err)
		}
	}
}

// command is the daemon's.
func (m *machine) command() []string {
	return append(append(slices.Clone(m.by), program(m.t, "v6net"), "daemon", "--state", m.journal(), "--plugin-socket", m.docker.socket,
		"--control-socket", m.controlSocket(), "--podman-folder", m.podman()), m.args...)
}

// kill kills the daemon, if it runs.
func (m *machine) kill() {
	if m.daemon == nil {
		return
	}
	if err := m.daemon.Kill(); err != nil {
		m.t.Error(err)
	}
	m.daemon = nil
}

// runs reports whether the daemon does.
func (m *machine) runs() bool {
	select {
	case <-m.daemon.Ended():
		return false
	default:
		_, killed := m.daemon.Points()
		return !killed
	}
}

// errGivenUp is what a call ends with that was cut off and is not repeated.
var errGivenUp = errors.New("the daemon went in the middle of it")

// call makes a call to the daemon, and makes it again when the daemon has gone meanwhile,
// as container engines do; and when it was given up since the machine had too much to do,
// as people do: Podman's plugin waits for two seconds, and here the daemon is held at
// each of its system calls.
func (m *machine) call(do func() error) error {
	for deadline := time.Now().Add(patience); ; {
		err := do()
		if err != nil && m.runs() && strings.Contains(err.Error(), "given up after") && time.Now().Before(deadline) {
			continue
		}
		if err == nil || m.runs() {
			return err
		}
		if m.cut == nil {
			return fmt.Errorf("%w: %w", errGivenUp, err)
		}
		if !m.cut() {
			return errGivenUp
		}
		deadline = time.Now().Add(patience) // of the call that comes now
	}
}

func (m *machine) status() (spec.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return m.control.Status(ctx)
}
