package driver

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/pkg/plugins"
)

// serve runs h on a new socket as the daemon does; stop ends it and says what Serve returned.
func serve(t *testing.T, h *Handler) (socket string, stop func() error) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "plugins", "v6net.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()
	stopped := false
	stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		return <-served
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve ended by its context returned %v, want nil", err)
		}
	})
	return socket, stop
}

// client is the engine's own client of plugins, with the timeout of `docker plugin enable`.
func client(t *testing.T, socket string) *plugins.Client {
	t.Helper()
	c, err := plugins.NewClientWithTimeout("unix://"+socket, nil, 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestListen(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "run", "docker", "plugins", "v6net.sock")
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("Listen in place of somebody's file: %v", err)
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(socket)
	if err != nil {
		t.Fatalf("Listen where a killed process left its socket: %v", err)
	}
	info, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if want := os.ModeSocket | 0o600; info.Mode() != want {
		t.Errorf("the socket has mode %v, want %v: its calls change the host's network", info.Mode(), want)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
}

// TestClient: the engine's client gets an answer, an error's text, and knows a method that is missing.
func TestClient(t *testing.T) {
	engine := newFakeEngine()
	socket, _ := serve(t, New(engine, quiet()))
	c := client(t, socket)

	var activated manifest
	if err := c.Call("Plugin.Activate", nil, &activated); err != nil || len(activated.Implements) != 2 {
		t.Errorf("activation: %v, %v; want the two drivers", activated, err)
	}
	var failed networkFailure
	if err := c.Call("NetworkDriver.Leave", map[string]string{"NetworkID": "x"}, &failed); err != nil || failed.Err == "" {
		t.Errorf("a call that fails: %q, %v; want the error in the answer", failed.Err, err)
	}
	err := c.Call("NetworkDriver.Tomorrow", nil, &failed)
	if !plugins.IsNotFound(err) || !strings.Contains(err.Error(), `unknown method "/NetworkDriver.Tomorrow"`) {
		t.Errorf("a method that is missing: %v, want one that the engine may do without", err)
	}
}

// TestCallSentAgain: a call that the engine repeats because its connection broke
// arrives without its body; what is said then must not be about IDs.
func TestCallSentAgain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "v6net.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		var answer networkFailure
		err := client(t, socket).Call("NetworkDriver.Leave", map[string]string{"NetworkID": networkID}, &answer)
		failed <- errors.Join(err, errors.New(answer.Err))
	}()
	broken, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := http.ReadRequest(bufio.NewReader(broken)); err != nil {
		t.Fatal(err)
	}
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- New(newFakeEngine(), quiet()).Serve(ctx, l) }()
	if err := <-failed; !strings.Contains(err.Error(), "has no body") {
		t.Errorf("the repeated call failed with %q, want to be told that it has no body", err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// TestServeWaitsForCalls: a call that runs when the daemon is told to stop is answered.
func TestServeWaitsForCalls(t *testing.T) {
	engine := newFakeEngine()
	running, finish := make(chan struct{}), make(chan struct{})
	engine.hook = func(ctx context.Context, _ string) error {
		close(running)
		<-finish
		return ctx.Err()
	}
	socket, stop := serve(t, New(engine, quiet()))
	answered := make(chan error, 1)
	go func() {
		var answer networkFailure
		err := client(t, socket).Call("NetworkDriver.DeleteNetwork", map[string]string{"NetworkID": networkID}, &answer)
		if err == nil && answer.Err != "" {
			err = errors.New(answer.Err)
		}
		answered <- err
	}()
	<-running
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for { // until the socket is gone
		c, err := net.Dial("unix", socket)
		if err != nil {
			break
		}
		_ = c.Close()
	}
	select {
	case err := <-stopped:
		t.Errorf("Serve returned %v under a running call", err)
	default:
	}
	close(finish)
	if err := <-answered; err != nil {
		t.Errorf("the call that ran failed: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve returned %v, want nil", err)
	}
}

// pipes is a listener in memory, so that a test's clock can be synthetic.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "pipe"} }

// TestServeBoundsItsEnd: calls that do not end are cancelled, and those that heed nothing are left.
func TestServeBoundsItsEnd(t *testing.T) {
	tests := []struct {
		name  string
		heeds bool
		want  time.Duration
	}{
		{"a call that heeds its context", true, drainTime},
		{"a call that does not", false, drainTime + undoTime},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				engine := newFakeEngine()
				finish := make(chan struct{})
				engine.hook = func(ctx context.Context, _ string) error {
					if tt.heeds {
						<-ctx.Done()
					} else {
						<-finish
					}
					return ctx.Err()
				}
				l := pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan error, 1)
				go func() { served <- New(engine, quiet()).Serve(ctx, l) }()

				here, there := net.Pipe()
				l.conns <- there
				go func() { _, _ = io.Copy(io.Discard, here) }()
				r, err := http.NewRequest("POST", "http://v6net/NetworkDriver.Leave", strings.NewReader(request))
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Write(here); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // the call runs

				start := time.Now()
				cancel()
				if err := <-served; err != nil {
					t.Errorf("Serve returned %v, want nil", err)
				}
				// Shutdown looks for idle connections every half second.
				if took := time.Since(start); took < tt.want || took > tt.want+500*time.Millisecond {
					t.Errorf("Serve took %s to end, want %s", took, tt.want)
				}
				close(finish)
				_ = here.Close()
			})
		})
	}
}

// TestServeBrokenListener: a listener that breaks is an error, with its address.
func TestServeBrokenListener(t *testing.T) {
	l, err := Listen(filepath.Join(t.TempDir(), "v6net.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	err = New(newFakeEngine(), quiet()).Serve(t.Context(), l)
	if !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "v6net.sock") {
		t.Errorf("Serve on a closed listener returned %v, want net.ErrClosed and the socket's path", err)
	}
}
