package control

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/v6net/v6net/internal/serve"
)

// refusalTime is for how long Refuse takes calls: those that wait already come at once.
const refusalTime = 500 * time.Millisecond

// Refuse answers calls that wait on l with why there is nobody to serve them, for a moment,
// and closes it: whoever has opened it for us (systemd) would else start us for them again.
func Refuse(ctx context.Context, l net.Listener, why error) error {
	ctx, cancel := context.WithTimeout(ctx, refusalTime)
	defer cancel()
	server := &http.Server{ReadHeaderTimeout: refusalTime, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, why.Error(), http.StatusServiceUnavailable)
	})}
	if err := serve.HTTP(ctx, l, server, refusalTime); err != nil {
		return fmt.Errorf("refuse calls: %w", err)
	}
	return nil
}
