package metrics

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/v6net/v6net/internal/serve"
	"github.com/v6net/v6net/internal/spec"
)

// Limits of the server.
const (
	headerTimeout   = 5 * time.Second
	answerTimeout   = 30 * time.Second
	shutdownTimeout = time.Second
	healthTimeout   = 2 * time.Second
	maxScrapes      = 4 // at the same time; each asks for the whole status
)

// CheckAddress says whether metrics can be served there: on a unix socket, or on a
// port of loopback, since they name networks, addresses and neighbours and ask for
// no password.
func CheckAddress(address string) error {
	if path, ok := strings.CutPrefix(address, "unix://"); ok && filepath.IsAbs(path) {
		return nil
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil || !at.Addr().IsLoopback() {
		return fmt.Errorf("--metrics=%s: allowed is unix:///PATH, or a port of loopback: 127.0.0.1:PORT, [::1]:PORT", address)
	}
	return nil
}

// Listen opens the address, a unix socket with its folder for root and its group. A
// socket that nobody answers on any more is replaced.
func Listen(address string) (net.Listener, error) {
	if err := CheckAddress(address); err != nil {
		return nil, err
	}
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("metrics on %s: %w", address, err)
		}
		return l, nil
	}
	l, err := serve.Unix(path, 0o660)
	if err != nil {
		return nil, fmt.Errorf("metrics on %s: %w", address, err)
	}
	return l, nil
}

// retryTime is how long an address that cannot be had is let alone.
const retryTime = 5 * time.Second

// Keep listens and serves until ctx ends. Another process may have the address:
// nobody loses his network because of that, and it is tried again.
func Keep(ctx context.Context, address string, status Status, log *slog.Logger, more ...prometheus.Collector) error {
	return keep(ctx, address, retryTime, status, log, more...)
}

func keep(ctx context.Context, address string, retry time.Duration, status Status, log *slog.Logger, more ...prometheus.Collector) error {
	for {
		l, err := Listen(address)
		if err == nil {
			err = Serve(ctx, l, status, log, more...)
		}
		if ctx.Err() != nil {
			return nil
		}
		log.Error("metrics are not served", "err", err, "again_in", retry)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retry):
		}
	}
}

// Serve answers /metrics and /healthz on l until ctx ends, and closes it. Beside the
// status it shows what else there is: [Calls], [Lines].
func Serve(ctx context.Context, l net.Listener, status Status, log *slog.Logger, more ...prometheus.Collector) error {
	server := &http.Server{
		Handler:           handler(ctx, status, log, more...),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: answerTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	if err := serve.HTTP(ctx, l, server, shutdownTimeout); err != nil {
		return fmt.Errorf("metrics on %s: %w", l.Addr(), err)
	}
	return nil
}

// freshTime is how old what is shown may be. Whoever may connect, every user of the host
// where it is a port, asks the daemon and the firewall no more often than that.
const freshTime = time.Second

// fresh asks status with ctx, that of the server, once a freshTime at most.
func fresh(ctx context.Context, status Status) Status {
	var mu sync.Mutex // held while it is asked: others want the same answer
	var last spec.Status
	var at time.Time
	return func(context.Context) spec.Status {
		mu.Lock()
		defer mu.Unlock()
		if at.IsZero() || time.Since(at) >= freshTime {
			last, at = status(ctx), time.Now()
		}
		return last
	}
}

func handler(ctx context.Context, status Status, log *slog.Logger, more ...prometheus.Collector) http.Handler {
	status = fresh(ctx, status)
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(ctx, status), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(more...)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError), MaxRequestsInFlight: maxScrapes,
		// What cannot be shown of one family is no reason to show nothing of the others.
		ErrorHandling: promhttp.ContinueOnError,
	}))
	asking := make(chan struct{}, 1)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { healthz(w, r, status, asking) })
	return mux
}

// healthz says whether the daemon answers: 200, with what is degraded in words, since
// that is no reason to start it again; 503 where it does not answer within two
// seconds. It is asked once at a time, so that those who ask of one that is stuck are
// not kept for ever.
func healthz(w http.ResponseWriter, r *http.Request, status Status, asking chan struct{}) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	answer := make(chan spec.Status, 1)
	select {
	case asking <- struct{}{}:
		go func() {
			answer <- status(ctx)
			<-asking
		}()
	case <-ctx.Done():
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	select {
	case s := <-answer:
		_, _ = io.WriteString(w, "ok\n"+degraded(s)) // the client may be gone
	case <-ctx.Done():
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "no answer within "+healthTimeout.String()+"\n")
	}
}

// degraded are the words of what is not as it should be, one a line.
func degraded(s spec.Status) string {
	var b strings.Builder
	say := func(what, why string) {
		if why != "" {
			fmt.Fprintf(&b, "degraded: %s: %s\n", what, why)
		}
	}
	say("host", s.Error)
	for _, o := range s.Obstacles {
		say(fmt.Sprintf("table %s, chain %s refuses what v6net lets through", o.Table, o.Chain), o.Why)
	}
	for _, n := range s.Networks {
		say("network "+spec.ShortID(n.ID), n.Error)
	}
	for _, p := range s.Proxies {
		say("NDP proxy on "+p.Parent, p.Error)
	}
	for _, d := range s.Delegations {
		say(fmt.Sprintf("source %s on %s", d.Source, d.Link), d.Error)
	}
	return b.String()
}
