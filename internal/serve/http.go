// Package serve runs servers that have an owner: until a context ends.
package serve

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// HTTP serves on l until ctx ends, and closes it. Requests that are under way then have
// grace to be answered; clients that take longer are cut off.
func HTTP(ctx context.Context, l net.Listener, server *http.Server, grace time.Duration) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		err := server.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close() // on clients that dawdle
		}
		stopped <- err
	})
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return err
	}
	return <-stopped
}
