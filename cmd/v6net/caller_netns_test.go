//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/event"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

const nobody = 65534

// recorder is an engine that says how often it was asked to remove something.
type recorder struct {
	control.Engine // nil: of nobody who may not ask it
	removed        atomic.Int32
}

func (r *recorder) Status(context.Context) spec.Status          { return spec.Status{Version: "1.2.3"} }
func (r *recorder) ForgetPool(context.Context, string) error    { r.removed.Add(1); return nil }
func (r *recorder) DeleteNetwork(context.Context, string) error { r.removed.Add(1); return nil }

// as does something as a user, who has none of root's capabilities.
func as(t *testing.T, uid uintptr, do func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		// Of this thread alone, and of those that it would start: it ends with the goroutine.
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uid, uid, uid); errno != 0 {
			done <- errno
			return
		}
		done <- do()
	}()
	if err := <-done; err != nil {
		t.Fatalf("as user %d: %v", uid, err)
	}
}

// askAs is what the server answers a user who asks.
func askAs(t *testing.T, uid uintptr, socket, request string) (answer string) {
	t.Helper()
	as(t, uid, func() error {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		defer c.Close() //nolint:errcheck // all is read
		_, err = io.WriteString(c, request+" HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
		text, readErr := io.ReadAll(c)
		answer = string(text)
		return errors.Join(err, readErr)
	})
	return answer
}

// A user who may not look into Docker's folder, where a plugin's socket is, is told to be
// root, and does not wait for a daemon that runs.
func TestAUserIsToldToBeRoot(t *testing.T) {
	plugin := filepath.Join(filepath.Dir(control.PluginSocket), "abc", filepath.Base(control.PluginSocket))
	l, err := control.Listen(plugin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := os.Chmod(filepath.Dir(filepath.Dir(control.PluginSocket)), 0o700); err != nil { // as Docker's is
		t.Fatal(err)
	}
	release, err := netns.Claim(claimName)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = release() }()
	as(t, nobody, func() error {
		if path, err := findSocket(t.Context()); exitStatus(err) != exitUsage || !strings.Contains(err.Error(), "run this as root") {
			t.Errorf("found is %q, %v", path, err)
		}
		return nil
	})
}

// Whom the socket's mode lets in may look; root alone changes anything, and it is said who did.
func TestOnlyRootChanges(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "v6net.sock")
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o666); err != nil { // as its administrator wants it
		t.Fatal(err)
	}
	engine, said := &recorder{}, &testnet.Output{}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- control.Serve(ctx, l, engine, &event.Hub{}, slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelInfo})))
	}()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	if answer := askAs(t, nobody, socket, "GET /v1/status"); !strings.Contains(answer, "200 OK") || !strings.Contains(answer, "1.2.3") {
		t.Errorf("somebody looks: %s", answer)
	}
	for _, request := range []string{"DELETE /v1/pools/2001:db8::%2F64", "DELETE /v1/networks/aa", "DELETE /v1/networks/aa/endpoints/bb", "POST /v1/networks", "POST /v1/endpoints"} {
		if answer := askAs(t, nobody, socket, request); !strings.Contains(answer, "403 Forbidden") || !strings.Contains(answer, "user 65534 asks: run this as root") {
			t.Errorf("somebody's %s: %s", request, answer)
		}
	}
	if n := engine.removed.Load(); n != 0 {
		t.Errorf("somebody has removed %d things", n)
	}
	if !strings.Contains(said.String(), "refused a change: only root may") || !strings.Contains(said.String(), "uid=65534") {
		t.Errorf("the log does not say so:\n%s", said)
	}
	if answer := askAs(t, 0, socket, "DELETE /v1/networks/aa"); !strings.Contains(answer, "204 No Content") || engine.removed.Load() != 1 {
		t.Errorf("root: %s", answer)
	}
	if want := fmt.Sprintf("method=DELETE path=/v1/networks/aa uid=0 pid=%d", os.Getpid()); !strings.Contains(said.String(), want) {
		t.Errorf("the log does not say %q:\n%s", want, said)
	}
}
