package driver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/docker/go-connections/sockets"
)

const (
	// drainTime is how long calls that run when the server is told to stop may
	// go on. The engine kills a plugin 10 s after it asked it to end.
	drainTime = 7 * time.Second

	// undoTime is for calls to undo what they did once they were cancelled.
	undoTime = 2 * time.Second

	headerTimeout = 5 * time.Second
)

// Listen opens the socket that the engine is to find, with its directory, for
// root only. A socket that an earlier process left there is replaced. Closing
// the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("directory of the plugin socket: %w", err)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("plugin socket %s: there is a file that is no socket", path)
	}
	l, err := sockets.NewUnixSocketWithOpts(path, sockets.WithChmod(0o600))
	if err != nil {
		return nil, fmt.Errorf("listen on plugin socket %s: %w", path, err)
	}
	return l, nil
}

// Serve answers calls on l until ctx ends, closes l, and waits for the calls
// that run: drainTime for them to end by themselves, then undoTime after it has
// cancelled them. It returns nil when ctx ended, and why it stopped otherwise.
//
// It runs an http.Server of its own rather than the one inside sdk.Handler,
// which cannot be shut down: a connection cut off under a call makes the engine
// send the call again, without its body.
func (h *Handler) Serve(ctx context.Context, l net.Listener) error {
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		// No idle timeout: see above, for a connection closed as a call arrives.
		BaseContext: func(net.Listener) context.Context { return calls },
		ErrorLog:    slog.NewLogLogger(h.log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(l) }()

	var err error
	select {
	case <-ctx.Done():
	case err = <-stopped:
		err = fmt.Errorf("serve the Docker engine on %s: %w", l.Addr(), err)
	}
	h.drain(server, cancel)
	if err == nil {
		<-stopped //nolint:errcheck // closed by drain
	}
	return err
}

// drain waits for running calls and closes every connection.
func (h *Handler) drain(server *http.Server, cancelCalls func()) {
	if waitIdle(server, drainTime) {
		return
	}
	h.log.Warn("cancelling the calls that still run", "after", drainTime)
	cancelCalls()
	if !waitIdle(server, undoTime) {
		h.log.Error("leaving calls that do not end", "after", undoTime)
	}
	_ = server.Close() // what it closes are connections of calls given up
}

// waitIdle stops accepting and waits until no call runs.
func waitIdle(server *http.Server, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return server.Shutdown(ctx) == nil
}
