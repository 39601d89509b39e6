package metrics

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// They name networks and neighbours, and ask for no password.
func TestOnlyLoopbackAndUnixSockets(t *testing.T) {
	for address, allowed := range map[string]bool{
		"unix:///run/v6net/metrics.sock": true, "127.0.0.1:9547": true, "[::1]:9547": true, "127.0.0.2:0": true,
		"": false, ":9547": false, "0.0.0.0:9547": false, "[::]:9547": false, "192.0.2.1:9547": false, "localhost:9547": false,
		"unix://metrics.sock": false, "/run/v6net/metrics.sock": false, "9547": false,
	} {
		if err := CheckAddress(address); (err == nil) != allowed || err != nil && !strings.Contains(err.Error(), "--metrics="+address) {
			t.Errorf("%q: %v, want allowed %v", address, err, allowed)
		}
	}
}

// serveOn serves until stop.
func serveOn(t *testing.T, address string, status Status) (l net.Listener, stop func()) {
	t.Helper()
	l, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- Serve(ctx, l, status, slog.New(slog.DiscardHandler), NewCalls()) }()
	return l, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func get(t *testing.T, l net.Listener, path string) (status int, body string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, l.Addr().Network(), l.Addr().String())
	}}}
	response, err := client.Get("http://v6net" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "metrics.sock")
	for _, address := range []string{"unix://" + path, "127.0.0.1:0", "[::1]:0"} {
		l, stop := serveOn(t, address, always(everything()))
		if status, body := get(t, l, "/metrics"); status != http.StatusOK || !strings.Contains(body, `v6net_build_info{version="1.2.3"} 1`) || !strings.Contains(body, "go_goroutines") {
			t.Errorf("%s: status %d\n%s", address, status, body)
		}
		want := "ok\ndegraded: host: firewall: no\ndegraded: table inet filter, chain forward refuses what v6net lets through: policy drop\ndegraded: network aaaaaaaaaaaa: parent\ndegraded: source pd on eth0: late\n"
		if status, body := get(t, l, "/healthz"); status != http.StatusOK || body != want {
			t.Errorf("%s: status %d, %q, want %q", address, status, body, want)
		}
		if status, _ := get(t, l, "/debug/pprof"); status != http.StatusNotFound {
			t.Errorf("%s: there is more than was promised: status %d", address, status)
		}
		stop()
	}
}

// The socket is root's and its group's, is taken over from who was killed, and from
// nobody else.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	_, stop := serveOn(t, "unix://"+path, always(spec.Status{}))
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	if l, err := Listen("unix://" + path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("beside another one: %v, %v", l, err)
	}
	stop()
	file := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen("unix://" + file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("in place of a file: %v, %v", l, err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the file: %v", err)
	}
}

// A daemon that is stuck is said to be, to everybody who asks, and is asked once.
func TestHealthOfADaemonThatIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		var asked atomic.Int32
		h := handler(t.Context(), func(context.Context) spec.Status {
			asked.Add(1)
			<-free
			return spec.Status{}
		}, slog.New(slog.DiscardHandler))
		for range 3 {
			if status, body := health(t, h); status != http.StatusServiceUnavailable || !strings.Contains(body, "2s") {
				t.Errorf("status %d: %s", status, body)
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("it was asked %d times", n)
		}
		close(free)
		synctest.Wait()
		if status, body := health(t, h); status != http.StatusOK || body != "ok\n" {
			t.Errorf("when it is free again: status %d: %s", status, body)
		}
	})
}

// Whoever asks as fast as he can has the daemon asked once a second.
func TestScrapesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		h := handler(t.Context(), func(ctx context.Context) spec.Status {
			if asked++; ctx.Err() != nil {
				t.Error("a client that goes keeps others from an answer")
			}
			return spec.Status{Version: "v1"}
		}, slog.New(slog.DiscardHandler))
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(gone, http.MethodGet, "/healthz", nil))
		for range 21 {
			recorder := httptest.NewRecorder()
			h.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			if !strings.Contains(recorder.Body.String(), `v6net_build_info{version="v1"} 1`) {
				t.Errorf("a scrape says\n%s", recorder.Body)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if asked < 2 || asked > 3 {
			t.Errorf("in two seconds it was asked %d times", asked)
		}
	})
}

func health(t *testing.T, h http.Handler) (status int, body string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	return recorder.Code, recorder.Body.String()
}

// An address that another process has is no end of the daemon: it is had later.
func TestAddressIsTaken(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := other.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var log bytes.Buffer
	go func() {
		ended <- keep(ctx, address, time.Millisecond, always(spec.Status{}), slog.New(slog.NewTextHandler(&log, nil)))
	}()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for {
		resp, err := http.Get("http://" + address + "/healthz") //nolint:noctx // a test's
		if err == nil {
			_ = resp.Body.Close()
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
}
