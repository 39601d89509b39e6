package driver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/docker/go-plugins-helpers/sdk"
)

const (
	// callTimeout is below the 30 s after which the engine gives up on a call
	// (`docker plugin enable --timeout`) and sends it again, without its body.
	callTimeout = 20 * time.Second

	// maxBody holds the port map of a container that publishes all 65535 ports
	// of a protocol, at some 110 bytes each.
	maxBody = 8 << 20
)

// Handler answers both protocols over HTTP. Whatever it is sent, it answers JSON.
//
// A failed call is answered with status 200 and a message in the field that its
// protocol has for it; the engine shows "remote: " and the message. With any
// other status the engine's client looks for the network protocol's field in
// the IPAM's answers too, and shows raw JSON when there is none.
type Handler struct {
	routes map[string]route
	log    *slog.Logger

	// Record is told how long each call took, and whether it failed; nil: nobody is.
	Record func(method string, took time.Duration, failed bool)
}

// route is one method of a protocol.
type route struct {
	call    call
	failure func(message string) any
}

// call takes a request's body and gives an answer that can be encoded as JSON.
type call func(ctx context.Context, body []byte) (any, error)

// New returns a handler that turns calls of the Docker engine into calls of ours.
func New(engine Engine, log *slog.Logger) *Handler {
	h := &Handler{routes: make(map[string]route), log: log}
	n, i := &networkDriver{engine: engine}, &ipamDriver{engine: engine}

	h.add("Plugin", networkFailed, map[string]call{
		"Activate": constant(manifest{Implements: []string{"NetworkDriver", "IpamDriver"}}),
	})
	h.add("NetworkDriver", networkFailed, map[string]call{
		"GetCapabilities":             constant(networkCaps),
		"GwAllocCheck":                method(n.gwAllocCheck),
		"AllocateNetwork":             method(n.allocate),
		"FreeNetwork":                 method(n.free),
		"CreateNetwork":               method(n.create),
		"DeleteNetwork":               method(n.delete),
		"CreateEndpoint":              method(n.createEndpoint),
		"DeleteEndpoint":              method(n.deleteEndpoint),
		"EndpointOperInfo":            method(n.endpointInfo),
		"Join":                        method(n.join),
		"Leave":                       method(n.leave),
		"ProgramExternalConnectivity": method(n.program),
		"RevokeExternalConnectivity":  method(n.revoke),
		// Nodes that come and go are of no interest to a driver of local scope.
		"DiscoverNew":    constant(done{}),
		"DiscoverDelete": constant(done{}),
	})
	h.add("IpamDriver", ipamFailed, map[string]call{
		"GetCapabilities":         constant(ipamCaps),
		"GetDefaultAddressSpaces": constant(addressSpaces),
		"RequestPool":             method(i.requestPool),
		"ReleasePool":             method(i.releasePool),
		"RequestAddress":          method(i.requestAddress),
		"ReleaseAddress":          method(i.releaseAddress),
	})
	return h
}

func (h *Handler) add(protocol string, failure func(string) any, calls map[string]call) {
	for name, c := range calls {
		h.routes["/"+protocol+"."+name] = route{call: c, failure: failure}
	}
}

func networkFailed(message string) any { return networkFailure{Err: message} }
func ipamFailed(message string) any    { return ipamFailure{Error: message} }

// constant makes a call that has one answer and looks at no request.
func constant(answer any) call {
	return func(context.Context, []byte) (any, error) { return answer, nil }
}

// method makes a call of a function that takes the decoded request.
func method[Request, Answer any](f func(context.Context, Request) (Answer, error)) call {
	return func(ctx context.Context, body []byte) (any, error) {
		var r Request
		if err := decode(body, &r); err != nil {
			return nil, err
		}
		return f(ctx, r)
	}
}

// decode reads one JSON value and nothing after it. Unknown fields are a newer
// engine's. Numbers of no known type keep their digits.
func decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	switch err := d.Decode(into); {
	case errors.Is(err, io.EOF):
		return errors.New("the request has no body (an engine that repeats a call which broke off sends none)")
	case err != nil:
		return fmt.Errorf("malformed request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("malformed request: more than one JSON value")
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	route, ok := h.routes[r.URL.Path]
	if !ok {
		// The engine tells a method that a plugin does not have by this status.
		refuse(w, http.StatusNotFound, fmt.Sprintf("unknown method %q", r.URL.Path))
		return
	}
	if r.Method != http.MethodPost {
		refuse(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s: send it by POST", r.URL.Path))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()

	log := h.log.With("method", r.URL.Path[1:])
	start := time.Now()
	answer, body, err := h.answer(ctx, route, w, r, log)
	took := time.Since(start)
	if h.Record != nil {
		h.Record(r.URL.Path[1:], took, err != nil)
	}
	if err != nil {
		log.Error("call failed", append(subject(body), "err", err, "took", took)...)
		answer = route.failure(err.Error())
	} else if log.Enabled(ctx, slog.LevelDebug) {
		log.Debug("call", append(subject(body), "took", took)...)
	}
	sdk.EncodeResponse(w, answer, false)
}

// answer makes the call. A panic is this call's error and nobody else's.
func (h *Handler) answer(ctx context.Context, route route, w http.ResponseWriter, r *http.Request, log *slog.Logger) (answer any, body []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("panic", append(subject(body), "value", p, "stack", string(debug.Stack()))...)
			answer, err = nil, errors.New("internal error, see the log of v6net")
		}
	}()
	if body, err = readBody(w, r); err != nil {
		return nil, nil, err
	}
	answer, err = route.call(ctx, body)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, body, fmt.Errorf("given up after %s: %w", callTimeout, err)
	}
	return answer, body, err
}

// subject is what a call is about, as attributes for the log. The engine has the IDs
// first in every request, so that no port map is read for them.
func subject(body []byte) []any {
	names := map[string]string{"NetworkID": "network", "EndpointID": "endpoint", "PoolID": "pool"}
	var attributes []any
	d := json.NewDecoder(bytes.NewReader(body))
	for _, err := d.Token(); err == nil && d.More(); { // what cannot be read is about nothing
		var key, value json.Token
		if key, err = d.Token(); err != nil {
			break
		}
		field, _ := key.(string)
		if names[field] == "" {
			break
		}
		if value, err = d.Token(); err == nil && value != "" {
			attributes = append(attributes, names[field], value)
		}
	}
	return attributes
}

// readBody reads a request's body, bounded in size and time.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	// The server lifts the deadline before it waits for the next request. Not
	// every http.ResponseWriter has deadlines; the real one does.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(callTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	return body, nil
}

// refuse answers a request that is no call of either protocol.
func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", sdk.DefaultContentTypeV1_1)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(networkFailure{Err: message}) // the client may be gone
}
