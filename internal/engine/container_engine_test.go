package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/v6net/v6net/internal/engine"
	"github.com/v6net/v6net/internal/spec"
)

// host is a world with a daemon in it and a container engine that calls it in
// libnetwork's order, with libnetwork's roll-backs.
type host struct {
	*world
	engine   *engine.Engine
	journal  engine.Journal
	registry engine.Registry // nil: none
	lines    slog.Handler    // of its log; nil: they go nowhere
	events   watcher
}

func newHost(t testing.TB) *host {
	t.Helper()
	w := newWorld()
	h := &host{world: w, journal: fakeJournal{w}}
	h.restart(t)
	return h
}

// restart throws the daemon away, wherever it is, and starts the next one.
func (h *host) restart(t reporter) {
	t.Helper()
	h.disarm()
	if err := h.start(t.Context()); err != nil {
		t.Fatalf("start: %v", err)
	}
}

// settle lets pass what a container engine takes at the most from one call of
// several that belong together to the next.
func (h *host) settle(t reporter) {
	t.Helper()
	h.engine.DoChores(t.Context(), time.Now().Add(engine.SettleTime))
}

// heard is what has been announced since it was last asked.
func (h *host) heard(t reporter) []string {
	t.Helper()
	h.engine.SendAnnouncements(t.Context())
	announced := h.announced
	h.announced = nil
	return announced
}

// start is restart with whatever fault is armed.
func (h *host) start(ctx context.Context) error {
	lines := h.lines
	if lines == nil {
		lines = slog.DiscardHandler
	}
	h.world.mu.Lock()
	clear(h.proxied)
	clear(h.advertised)
	h.world.mu.Unlock()
	e, err := engine.New(engine.Config{
		Version:     "test",
		Events:      &h.events,
		BootID:      h.booted,
		Log:         slog.New(lines),
		Clock:       h.clock,
		Journal:     h.journal,
		Links:       fakeLinks{h.world},
		Sysctls:     fakeSysctls{h.world},
		Firewall:    fakeFirewall{h.world},
		Inspector:   fakeInspector{h.world},
		Zones:       fakeZones{h.world},
		Denials:     fakeDenials{h.world},
		Conntrack:   fakeConntrack{h.world},
		Host:        fakeHost{h.world},
		Proxy:       fakeProxy{h.world},
		Advertisers: fakeAdvertisers{h.world},
		Sources:     fakeSources{h.world},
		Routes:      fakeRoutes{h.world},
		Sandboxes:   fakeSandboxes{h.world},
		Registry:    h.registry,
	})
	if err != nil {
		return err
	}
	h.engine = e
	return e.Replay(ctx)
}

func hexID(letter byte, n int) string { return fmt.Sprintf("%c%010x%053x", letter, n, 0) }
func netID(n int) string              { return hexID('a', n) }
func epID(n int) string               { return hexID('e', n) }

// attachment is a container on a network, as the container engine remembers it.
type attachment struct {
	network, id string
	leases      map[string]netip.Addr // by pool
	ports       []spec.Port
	sandbox     string // the container's, where it has several; empty: its own
}

// recipe is a `docker network create`.
type recipe struct {
	id       string
	pools    []spec.PoolRequest
	options  func(*spec.Options)
	internal bool
	gateways []string // named by the user; empty or too short: by the IPAM driver
}

func auto6() spec.PoolRequest {
	return spec.PoolRequest{V6: true, Source: spec.SourceAuto, Allocation: spec.Sequential}
}

func ula6() spec.PoolRequest {
	return spec.PoolRequest{V6: true, Source: spec.SourceULA, Allocation: spec.Sequential}
}

func auto4() spec.PoolRequest {
	return spec.PoolRequest{Source: spec.SourcePrivate, Allocation: spec.Sequential}
}

func static(s string) spec.PoolRequest {
	p := pfx(s)
	return spec.PoolRequest{V6: p.Addr().Is6(), Prefix: p, Source: spec.SourceStatic, Allocation: spec.Sequential}
}

// dual is a network made with no options: on-link IPv6 and private IPv4.
func dual(n int) recipe {
	return recipe{id: netID(n), pools: []spec.PoolRequest{auto4(), auto6()}}
}

// createNetwork answers the network as it was asked for.
func (h *host) createNetwork(ctx context.Context, r recipe) (n spec.Network, err error) {
	err = h.create(ctx, r, &n)
	return n, err
}

// create keeps n up to date, so that it is known after a crash too.
func (h *host) create(ctx context.Context, r recipe, n *spec.Network) (err error) {
	*n = spec.Network{ID: r.id, Options: spec.DefaultOptions(), Internal: r.internal}
	if r.options != nil {
		r.options(&n.Options)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.releasePools(context.WithoutCancel(ctx), *n))
		}
	}()
	for i, request := range r.pools {
		p, err := h.engine.RequestPool(ctx, request)
		if err != nil {
			return err
		}
		subnets := &n.IPv4
		if request.V6 {
			subnets = &n.IPv6
		}
		*subnets = append(*subnets, spec.Subnet{Prefix: p.Prefix})
		var named netip.Addr
		if i < len(r.gateways) && r.gateways[i] != "" {
			named = ip(r.gateways[i])
		}
		gateway, err := h.engine.RequestAddress(ctx, p.ID, named, true)
		if err != nil {
			return err
		}
		(*subnets)[len(*subnets)-1].Gateway = gateway.Addr()
	}
	return h.engine.CreateNetwork(ctx, clone(*n))
}

// clone is the network as the next call would bring it: in memory of its own.
func clone(n spec.Network) spec.Network {
	n.IPv4 = append([]spec.Subnet(nil), n.IPv4...)
	n.IPv6 = append([]spec.Subnet(nil), n.IPv6...)
	return n
}

func (h *host) releasePools(ctx context.Context, n spec.Network) error {
	var errs []error
	for _, s := range n.Subnets() {
		if s.Gateway.IsValid() {
			errs = append(errs, gone(h.engine.ReleaseAddress(ctx, s.Prefix.String(), s.Gateway)))
		}
		errs = append(errs, gone(h.engine.ReleasePool(ctx, s.Prefix.String())))
	}
	return errors.Join(errs...)
}

// gone is the front end's: what is not there need not be removed.
func gone(err error) error {
	if errors.Is(err, spec.ErrNotFound) {
		return nil
	}
	return err
}

// deleteNetwork releases the pools first, as libnetwork does, and never again.
func (h *host) deleteNetwork(ctx context.Context, n spec.Network) error {
	return errors.Join(h.releasePools(ctx, n), gone(h.engine.DeleteNetwork(ctx, n.ID)))
}

// lease asks for an address of every pool.
func (h *host) lease(ctx context.Context, n spec.Network, a *attachment) (ep spec.Endpoint, err error) {
	ep = spec.Endpoint{ID: a.id, NetworkID: n.ID}
	a.network, a.leases = n.ID, map[string]netip.Addr{}
	for _, s := range n.Subnets() {
		p, err := h.engine.RequestAddress(ctx, s.Prefix.String(), netip.Addr{}, false)
		if err != nil {
			return ep, err
		}
		a.leases[s.Prefix.String()] = p.Addr()
		if p.Addr().Is4() {
			ep.IPv4 = p
		} else {
			ep.IPv6 = p
		}
	}
	return ep, nil
}

// run starts a container on a network. What fails is taken back.
func (h *host) run(ctx context.Context, n spec.Network, a *attachment) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, h.stop(context.WithoutCancel(ctx), *a))
		}
	}()
	ep, err := h.lease(ctx, n, a)
	if err != nil {
		return err
	}
	if _, err := h.engine.CreateEndpoint(ctx, ep); err != nil {
		return err
	}
	sandbox := a.sandbox
	if sandbox == "" {
		sandbox = "/run/" + a.id
	}
	if _, err := h.engine.Join(ctx, n.ID, a.id, sandbox); err != nil {
		return err
	}
	h.moveIn(a.id)
	if len(h.lentTo) > 0 {
		h.sandboxes[spec.EndpointAlias(a.id)] = []string{ep.IPv6.String()}
	}
	if n.Options.OnParent() {
		h.engine.LinkChanged(ctx, spec.SandboxName(a.id), false, true)
	} else {
		h.engine.LinkChanged(ctx, spec.VethName(a.id), true, false)
	}
	if len(a.ports) > 0 {
		return h.engine.Publish(ctx, n.ID, a.id, a.ports)
	}
	return nil
}

// stop ends a container; it may be repeated, and what is not there is no error.
func (h *host) stop(ctx context.Context, a attachment) error {
	errs := []error{
		gone(h.engine.Unpublish(ctx, a.network, a.id)),
		gone(h.engine.Leave(ctx, a.network, a.id)),
	}
	h.moveOut(a.id)
	delete(h.sandboxes, spec.EndpointAlias(a.id))
	errs = append(errs, gone(h.engine.DeleteEndpoint(ctx, a.network, a.id)))
	if errors.Join(errs...) == nil {
		for pool, addr := range a.leases {
			errs = append(errs, gone(h.engine.ReleaseAddress(ctx, pool, addr)))
		}
	}
	return errors.Join(errs...)
}

var equateNetip = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// sameWorld fails the test where two snapshots differ.
func sameWorld(t reporter, what string, want, got snapshot) {
	t.Helper()
	if diff := cmp.Diff(want, got, equateNetip); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// consistent checks that kernel, journal and memory say the same: a daemon that
// starts from the journal, on a copy of the host, finds nothing to change and
// knows what this one knows.
func (h *host) consistent(t reporter, when string) {
	t.Helper()
	w := h.world.clone()
	next := &host{world: w, journal: fakeJournal{w}}
	if err := next.start(t.Context()); err != nil {
		t.Fatalf("%s: start: %v", when, err)
	}
	sameWorld(t, when+": a start changed the host, so kernel and journal differed", h.snapshot(), next.snapshot())
	sameStatus(t, when+": memory and journal differed", h.engine.Status(t.Context()), next.engine.Status(t.Context()))
}

func must(t reporter, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sameStatus fails the test where two answers of Status differ.
func sameStatus(t reporter, what string, want, got spec.Status) {
	t.Helper()
	if diff := cmp.Diff(want, got, equateNetip, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s: status (-want +got):\n%s", what, diff)
	}
}

func equalWorlds(a, b snapshot) bool { return reflect.DeepEqual(a, b) }

// reporter is a test, of package testing or of rapid.
type reporter interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}
