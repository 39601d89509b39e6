package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/v6net/v6net/internal/event"
	"github.com/v6net/v6net/internal/serve"
	"github.com/v6net/v6net/internal/spec"
)

// SocketPath is where a daemon that runs as a plain service listens.
const SocketPath = "/run/v6net/v6net.sock"

const (
	statusPath   = "/v1/status"
	networksPath = "/v1/networks/" // and a network's ID
	poolsPath    = "/v1/pools/"    // and a pool's
	makePath     = "/v1/networks"
	attachPath   = "/v1/endpoints"
	explainPath  = "/v1/firewall/explain"
	// A network's ID, this, and an endpoint's.
	endpointsInfix = "/endpoints/"
)

// maxRequest holds the ports of a container that publishes all of a protocol's.
const maxRequest = 8 << 20

// Limits of the server: a client that dawdles is cut off.
const (
	headerTimeout   = 5 * time.Second
	requestTimeout  = 30 * time.Second
	shutdownTimeout = 5 * time.Second
)

// Engine is what the API gives access to.
type Engine interface {
	Watched
	// DeleteNetwork's error matches spec.ErrNotFound for an unknown network.
	DeleteNetwork(ctx context.Context, id string) error
	// Explain says what the firewall does with a connection.
	Explain(context.Context, spec.Call) (spec.Judgement, error)
	// ForgetPool's error matches spec.ErrNotFound for an unknown pool.
	ForgetPool(ctx context.Context, id string) error
	// The rest serves front ends that keep no state: one call a task, each of which
	// can be repeated, and takes itself back when it fails.
	MakeNetwork(context.Context, spec.NetworkRequest) (spec.Network, error)
	Attach(context.Context, spec.AttachRequest) (spec.Attached, error)
	// Detach's error matches spec.ErrNotFound for an unknown endpoint.
	Detach(ctx context.Context, networkID, endpointID string) error
}

// Listen opens the socket at path with its folder, for root alone. A socket
// that nobody answers on any more is replaced.
func Listen(path string) (net.Listener, error) {
	l, err := serve.Unix(path, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return l, nil
}

// Serve answers on l until ctx ends, and closes it. What happens comes from hub.
func Serve(ctx context.Context, l net.Listener, engine Engine, hub *event.Hub, log *slog.Logger) error {
	return serveFor(ctx, l, routes(ctx, engine, hub, log), requestTimeout)
}

// routes answers all that the API has.
func routes(ctx context.Context, engine Engine, hub *event.Hub, log *slog.Logger) *http.ServeMux {
	mux := watchers(ctx, engine, hub, log)
	mux.HandleFunc("POST "+explainPath, task(engine.Explain, log))
	// What front ends do all day the engine logs itself; what an operator has removed, who that was.
	mux.HandleFunc("POST "+makePath, changing(slog.LevelDebug, log, task(engine.MakeNetwork, log)))
	mux.HandleFunc("POST "+attachPath, changing(slog.LevelDebug, log, task(engine.Attach, log)))
	mux.HandleFunc("DELETE "+networksPath+"{network}"+endpointsInfix+"{id}", changing(slog.LevelDebug, log, func(w http.ResponseWriter, r *http.Request) {
		removal(func(ctx context.Context, id string) error {
			return engine.Detach(ctx, r.PathValue("network"), id)
		})(w, r)
	}))
	mux.HandleFunc("DELETE "+networksPath+"{id}", changing(slog.LevelInfo, log, removal(engine.DeleteNetwork)))
	mux.HandleFunc("DELETE "+poolsPath+"{id}", changing(slog.LevelInfo, log, removal(engine.ForgetPool)))
	return mux
}

// Watched is what can be looked at, and no more.
type Watched interface {
	Status(context.Context) spec.Status
	// Describe adds to events what is known of what they are about.
	Describe([]spec.Event)
}

// watchers answers what can be looked at.
func watchers(ctx context.Context, what Watched, hub *event.Hub, log *slog.Logger) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(what.Status(r.Context())); err != nil {
			log.Warn("control: write answer", "err", err)
		}
	})
	mux.Handle("GET "+eventsPath, stream{ctx, hub, what.Describe, log})
	return mux
}

// serveFor gives requests so long to be read and answered, but for streams.
func serveFor(ctx context.Context, l net.Listener, mux *http.ServeMux, patience time.Duration) error {
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, ReadTimeout: patience, WriteTimeout: patience, ConnContext: withCaller}
	if err := serve.HTTP(ctx, l, server, shutdownTimeout); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// subject is what a line of the log about a request says it is about.
func subject(request any) []any {
	var n spec.NetworkRequest
	var about []any
	switch r := request.(type) {
	case spec.NetworkRequest:
		n = r
	case spec.AttachRequest:
		n, about = r.Network, []any{"endpoint", r.ID, "container", r.Name}
	default:
		return nil
	}
	return append([]any{"network", n.ID, "name", n.Name}, about...)
}

// removal answers a request to remove what the path's ID names.
func removal(remove func(ctx context.Context, id string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch err := remove(r.Context(), r.PathValue("id")); {
		case errors.Is(err, spec.ErrNotFound):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}
}

// task answers a request that is one JSON value with another. What the server does
// not know of a request came from a newer client, and would be a promise not kept.
func task[Request, Answer any](do func(context.Context, Request) (Answer, error), log *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request Request
		body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
		body.DisallowUnknownFields()
		if err := body.Decode(&request); err != nil {
			http.Error(w, fmt.Sprintf("request (are client and daemon of one version?): %v", err), http.StatusBadRequest)
			return
		}
		answer, err := do(r.Context(), request)
		if err != nil {
			log.Error("control: call failed", append(subject(request), "path", r.URL.Path, "err", err)...)
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			log.Warn("control: write answer", "err", err)
		}
	}
}
