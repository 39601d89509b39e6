package driver

import (
	"context"
	"log/slog"
	"maps"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

const (
	networkID  = "7f9b1f2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789abcd"
	endpointID = "0a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789abcdef"
)

// called is one call that the engine got: {"CreateNetwork": {…}}.
type called map[string]any

// fakeEngine notes its calls and answers with what has been set, or fails.
type fakeEngine struct {
	mu    sync.Mutex
	calls []called

	fail       map[string]error
	hook       func(ctx context.Context, method string) error // runs within each call
	made       spec.Endpoint                                  // fills what an endpoint has empty
	attachment spec.Attachment
}

// newFakeEngine answers as for a dual-stack network.
func newFakeEngine() *fakeEngine {
	return &fakeEngine{
		made: spec.Endpoint{
			MAC:  "02:42:ac:1e:00:02",
			IPv4: netip.MustParsePrefix("172.30.0.2/16"),
			IPv6: netip.MustParsePrefix("2001:db8:1::2/64"),
		},
		attachment: spec.Attachment{
			Interface: "v6nx0a1b2c3d4e5",
			Prefix:    "eth",
			Gateway4:  netip.MustParseAddr("172.30.0.1"),
			Gateway6:  netip.MustParseAddr("fe80::1"),
		},
	}
}

func (e *fakeEngine) call(ctx context.Context, method string, argument any) error {
	e.mu.Lock()
	e.calls = append(e.calls, called{method: argument})
	err := e.fail[method]
	e.mu.Unlock()
	if e.hook != nil {
		if err := e.hook(ctx, method); err != nil {
			return err
		}
	}
	return err
}

// taken are the calls since it was last asked.
func (e *fakeEngine) taken() []called {
	e.mu.Lock()
	defer e.mu.Unlock()
	calls := e.calls
	e.calls = nil
	return calls
}

func (e *fakeEngine) RequestPool(ctx context.Context, r spec.PoolRequest) (spec.Pool, error) {
	pool := spec.Pool{ID: "v4", Prefix: netip.MustParsePrefix("172.30.0.0/16")}
	if r.V6 {
		pool = spec.Pool{ID: "v6", Prefix: netip.MustParsePrefix("2001:db8:1::/64"), Source: spec.SourceParent, Reason: "part of eth0's"}
	}
	if r.Prefix.IsValid() {
		pool.Prefix = r.Prefix
	}
	return pool, e.call(ctx, "RequestPool", r)
}

func (e *fakeEngine) ReleasePool(ctx context.Context, poolID string) error {
	return e.call(ctx, "ReleasePool", poolID)
}

func (e *fakeEngine) RequestAddress(ctx context.Context, poolID string, want netip.Addr, gateway bool) (netip.Prefix, error) {
	err := e.call(ctx, "RequestAddress", map[string]any{"pool": poolID, "want": want, "gateway": gateway})
	if !want.IsValid() {
		want = map[string]netip.Addr{"v4": e.made.IPv4.Addr(), "v6": e.made.IPv6.Addr()}[poolID]
	}
	return netip.PrefixFrom(want, map[bool]int{true: 64, false: 16}[want.Is6()]), err
}

func (e *fakeEngine) ReleaseAddress(ctx context.Context, poolID string, addr netip.Addr) error {
	return e.call(ctx, "ReleaseAddress", map[string]any{"pool": poolID, "address": addr})
}

// CreateNetwork notes only the options that are not the default ones. What it
// answers from then on has no more than the network has.
func (e *fakeEngine) CreateNetwork(ctx context.Context, n spec.Network) error {
	options, defaults := fields(n.Options), fields(spec.DefaultOptions())
	maps.DeleteFunc(options, func(key string, value any) bool { return value == defaults[key] })
	if len(n.IPv4) == 0 {
		e.made.IPv4, e.attachment.Gateway4 = netip.Prefix{}, netip.Addr{}
	}
	if n.Internal {
		e.attachment.Gateway4, e.attachment.Gateway6 = netip.Addr{}, netip.Addr{}
	}
	return e.call(ctx, "CreateNetwork", map[string]any{
		"id": n.ID, "internal": n.Internal, "ipv4": n.IPv4, "ipv6": n.IPv6, "options": options,
	})
}

// fields are a value's as JSON has them.
func fields(v any) map[string]any {
	var m map[string]any
	if err := convert(v, &m); err != nil {
		panic(err)
	}
	return m
}

func (e *fakeEngine) DeleteNetwork(ctx context.Context, id string) error {
	return e.call(ctx, "DeleteNetwork", id)
}

func (e *fakeEngine) CreateEndpoint(ctx context.Context, ep spec.Endpoint) (spec.Endpoint, error) {
	err := e.call(ctx, "CreateEndpoint", map[string]any{
		"network": ep.NetworkID, "id": ep.ID, "mac": ep.MAC, "ipv4": ep.IPv4, "ipv6": ep.IPv6,
	})
	if ep.MAC == "" {
		ep.MAC = e.made.MAC
	}
	if !ep.IPv4.IsValid() {
		ep.IPv4 = e.made.IPv4
	}
	if !ep.IPv6.IsValid() {
		ep.IPv6 = e.made.IPv6
	}
	return ep, err
}

func (e *fakeEngine) DeleteEndpoint(ctx context.Context, networkID, endpointID string) error {
	return e.call(ctx, "DeleteEndpoint", []string{networkID, endpointID})
}

func (e *fakeEngine) Endpoint(ctx context.Context, networkID, endpointID string) (spec.Endpoint, error) {
	return e.made, e.call(ctx, "Endpoint", []string{networkID, endpointID})
}

func (e *fakeEngine) Join(ctx context.Context, networkID, endpointID, sandbox string) (spec.Attachment, error) {
	return e.attachment, e.call(ctx, "Join", []string{networkID, endpointID, sandbox})
}

func (e *fakeEngine) Leave(ctx context.Context, networkID, endpointID string) error {
	return e.call(ctx, "Leave", []string{networkID, endpointID})
}

func (e *fakeEngine) Publish(ctx context.Context, networkID, endpointID string, ports []spec.Port) error {
	return e.call(ctx, "Publish", map[string]any{"network": networkID, "endpoint": endpointID, "ports": ports})
}

func (e *fakeEngine) Unpublish(ctx context.Context, networkID, endpointID string) error {
	return e.call(ctx, "Unpublish", []string{networkID, endpointID})
}

// quiet is a log for tests that make calls fail.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// post sends one request to a handler and answers with status and body.
func post(t *testing.T, h *Handler, method, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/"+method, strings.NewReader(body)))
	return w.Code, strings.TrimSpace(w.Body.String())
}
