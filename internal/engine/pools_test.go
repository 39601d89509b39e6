package engine_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

func next(t testing.TB, h *host, pool string) netip.Addr {
	t.Helper()
	p, err := h.engine.RequestAddress(t.Context(), pool, netip.Addr{}, false)
	must(t, err)
	return p.Addr()
}

// Nobody else gets a pool that has been handed out, whoever may be on it, until it
// is released. What was asked for by a front end that did not live to use it is
// dropped after the next start.
func TestRequestPoolAgain(t *testing.T) {
	const subnet = "2001:db8:ff::/64"
	within := static(subnet)
	within.Range = pfx("2001:db8:ff::1:0/112")
	gateway := func(t *testing.T, h *host) {
		_, err := h.engine.RequestAddress(t.Context(), subnet, netip.Addr{}, true)
		must(t, err)
	}
	for _, tc := range []struct {
		name    string
		between func(t *testing.T, h *host)
		again   spec.PoolRequest
		free    bool
	}{
		{name: "beside the first", between: func(*testing.T, *host) {}},
		{name: "later", between: func(t *testing.T, h *host) { h.settle(t) }},
		{name: "later, after a restart", between: func(t *testing.T, h *host) { h.settle(t); h.restart(t); h.settle(t) }},
		{name: "a restart before it could be used", free: true, between: func(t *testing.T, h *host) { h.restart(t); h.settle(t) }},
		{name: "a restart, and the front end goes on", between: func(t *testing.T, h *host) { h.restart(t); gateway(t, h); h.settle(t) }},
		{name: "a gateway's address, then a restart", between: func(t *testing.T, h *host) { gateway(t, h); h.restart(t); h.settle(t) }},
		{name: "a container has an address", between: func(t *testing.T, h *host) { next(t, h, subnet); h.restart(t); h.settle(t) }},
		{name: "a network is on it", between: func(t *testing.T, h *host) {
			must(t, h.engine.CreateNetwork(t.Context(), spec.Network{ID: netID(1), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: pfx(subnet)}}}))
			h.restart(t)
			h.settle(t)
		}},
		{name: "with another range", again: within, between: func(*testing.T, *host) {}},
		{name: "overlapping", again: static("2001:db8:ff::/80"), between: func(*testing.T, *host) {}},
		{name: "released", free: true, between: func(t *testing.T, h *host) { must(t, h.engine.ReleasePool(t.Context(), subnet)) }},
		{name: "the network is gone", free: true, between: func(t *testing.T, h *host) {
			must(t, h.engine.CreateNetwork(t.Context(), spec.Network{ID: netID(1), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: pfx(subnet)}}}))
			must(t, h.engine.DeleteNetwork(t.Context(), netID(1)))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			_, err := h.engine.RequestPool(t.Context(), static(subnet))
			must(t, err)
			tc.between(t, h)
			again := tc.again
			if again == (spec.PoolRequest{}) {
				again = static(subnet)
			}
			p, err := h.engine.RequestPool(t.Context(), again)
			if tc.free != (err == nil) {
				t.Fatalf("%+v, %v, want a pool: %t", p, err, tc.free)
			}
			if err == nil && p.ID != subnet {
				t.Errorf("pool %s, want %s", p.ID, subnet)
			}
		})
	}
}

// The container engine keeps what overlaps and asks again, for ever: each answer must be another pool.
func TestRequestPoolIsNewEachTime(t *testing.T) {
	h := newHost(t)
	var seen []netip.Prefix
	for i := range 20 {
		request := []spec.PoolRequest{auto6(), ula6(), auto4()}[i%3]
		p, err := h.engine.RequestPool(t.Context(), request)
		must(t, err)
		for _, other := range seen {
			if other.Overlaps(p.Prefix) {
				t.Fatalf("%s overlaps %s", p.Prefix, other)
			}
		}
		seen = append(seen, p.Prefix)
	}
}

func TestReleasePool(t *testing.T) {
	h := newHost(t)
	pristine := h.snapshot()
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	must(t, h.engine.ReleasePool(t.Context(), onLinkPool)) // with its leases, before the network as Docker does
	if p, err := h.engine.RequestPool(t.Context(), static(onLinkPool)); err == nil {
		t.Errorf("pool %s was given away while a network is on it", p.ID)
	}
	h.consistent(t, "with a network whose pool is released")
	must(t, h.engine.DeleteNetwork(t.Context(), n.ID))
	must(t, gone(h.engine.ReleasePool(t.Context(), pool4)))
	sameWorld(t, "after release", pristine, h.snapshot())
	p, err := h.engine.RequestPool(t.Context(), static(onLinkPool))
	must(t, err)
	if got, err := h.engine.RequestAddress(t.Context(), p.ID, ip("2001:db8:1:0:789a::1"), false); err != nil {
		t.Errorf("a lease of the released pool is still there: %v, %v", got, err)
	}
}

func TestGatewayAddress(t *testing.T) {
	for _, tc := range []struct {
		name    string
		request spec.PoolRequest
		prepare func(t *testing.T, h *host, pool string)
		want    string
	}{
		{name: "the first", request: static("2001:db8:ff::/64"), want: "2001:db8:ff::1/64"},
		{name: "the first, outside of the range", request: func() spec.PoolRequest {
			r := static("2001:db8:ff::/64")
			r.Range = pfx("2001:db8:ff::1:0/112")
			return r
		}(), want: "2001:db8:ff::1/64"},
		{name: "the first of IPv4", request: auto4(), want: "172.24.154.1/24"},
		{name: "the next where the first is taken", request: static("2001:db8:ff::/64"), want: "2001:db8:ff::2/64",
			prepare: func(t *testing.T, h *host, pool string) {
				_, err := h.engine.RequestAddress(t.Context(), pool, ip("2001:db8:ff::1"), false)
				must(t, err)
				h.settle(t)
			}},
		{name: "the same one again, for who had no answer", request: static("2001:db8:ff::/64"), want: "2001:db8:ff::1/64",
			prepare: func(t *testing.T, h *host, pool string) {
				_, err := h.engine.RequestAddress(t.Context(), pool, netip.Addr{}, true)
				must(t, err)
			}},
		{name: "on a shared link, one that no neighbour has", request: static("2001:db8:1:0:5::/80"), want: "2001:db8:1:0:5::3/80",
			prepare: func(_ *testing.T, h *host, _ string) {
				h.foreign[ip("2001:db8:1:0:5::1")], h.foreign[ip("2001:db8:1:0:5::2")] = true, true
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			p, err := h.engine.RequestPool(t.Context(), tc.request)
			must(t, err)
			if tc.prepare != nil {
				tc.prepare(t, h, p.ID)
			}
			got, err := h.engine.RequestAddress(t.Context(), p.ID, netip.Addr{}, true)
			if err != nil || got != pfx(tc.want) {
				t.Errorf("gateway %v, %v, want %s", got, err, tc.want)
			}
		})
	}
}

// shared starts a host whose probes take a second, with a network on the shared link.
func shared(t *testing.T) *host {
	h := newHost(t)
	_, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto6()}})
	must(t, err)
	h.probeTime, h.probes = time.Second, nil
	return h
}

// took is how long a call has waited.
func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func TestAddressesAreProbedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := shared(t)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.engine.Run(ctx) }()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(h.probes) != 1 {
			t.Fatalf("%d probes after a network was created, want one ahead of need", len(h.probes))
		}
		for range 100 {
			if wait := took(func() { next(t, h, onLinkPool) }); wait > 0 {
				t.Fatalf("an address took %s though it was probed ahead", wait)
			}
			time.Sleep(2 * time.Second) // for the probe of the next batch
		}
		synctest.Wait()
		if n := len(h.probes); n > 12 {
			t.Errorf("%d probes for 100 addresses: they are not made in batches", n)
		}
		stop()
		must(t, <-done)
	})
}

func TestProbeGoesStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := shared(t)
		first := next(t, h, onLinkPool)
		time.Sleep(10 * time.Minute)
		if wait := took(func() { next(t, h, onLinkPool) }); wait > 0 {
			t.Errorf("an address took %s, though it was probed just 10 minutes ago", wait)
		}
		time.Sleep(2 * time.Second)
		want := first.Next().Next()
		h.foreign[want] = true // somebody took it since it was probed
		if _, err := h.engine.RequestAddress(t.Context(), onLinkPool, want, false); err == nil {
			t.Errorf("%s was leased by an old probe, though a neighbour has it now", want)
		}
		var got netip.Addr
		if wait := took(func() { got = next(t, h, onLinkPool) }); wait == 0 || h.foreign[got] {
			t.Errorf("%s was leased after %s, want a new probe and no neighbour's address", got, wait)
		}
	})
}

func TestProbeSkipsNeighbours(t *testing.T) {
	h := newHost(t)
	_, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto6()}})
	must(t, err)
	a := ip("2001:db8:1:0:789a::2")
	for i := range 40 { // more than two batches, but for one address in each
		if i%16 != 15 {
			h.foreign[a] = true
		}
		a = a.Next()
	}
	seen := map[netip.Addr]bool{}
	for range 30 {
		a := next(t, h, onLinkPool)
		if h.foreign[a] || seen[a] {
			t.Fatalf("%s was leased: a neighbour's %t, leased before %t", a, h.foreign[a], seen[a])
		}
		seen[a] = true
	}
}

// A neighbour's address is nobody's lease, cannot be an endpoint's, and may be
// asked for by name: the neighbour may have left.
func TestNeighboursAddressIsNoLease(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto6()}})
	must(t, err)
	theirs := ip("2001:db8:1:0:789a::3")
	h.foreign[theirs] = true
	next(t, h, onLinkPool)
	if leases := h.engine.Status(t.Context()).Pools[0].Leases; leases != 2 {
		t.Errorf("%d leases, want the gateway's and one", leases)
	}
	before := h.snapshot()
	if err := h.engine.ReleaseAddress(t.Context(), onLinkPool, theirs); !errors.Is(err, spec.ErrNotFound) {
		t.Errorf("release of a neighbour's address: %v, want ErrNotFound", err)
	}
	_, err = h.engine.CreateEndpoint(t.Context(), spec.Endpoint{ID: epID(1), NetworkID: n.ID, IPv6: netip.PrefixFrom(theirs, 80)})
	if err == nil || !strings.Contains(err.Error(), "another host") {
		t.Errorf("an endpoint with a neighbour's address: %v, want a refusal", err)
	}
	for range 2 { // the second time it is not remembered as a neighbour's any more
		if _, err := h.engine.RequestAddress(t.Context(), onLinkPool, theirs, false); err == nil {
			t.Error("a neighbour's address was leased")
		}
	}
	sameWorld(t, "after the refusals", before, h.snapshot())
	delete(h.foreign, theirs)
	if _, err := h.engine.RequestAddress(t.Context(), onLinkPool, theirs, false); err != nil {
		t.Errorf("the address of a neighbour that has left: %v", err)
	}
}

// A host that answers for every address must not make the search endless.
func TestEveryAddressIsANeighbours(t *testing.T) {
	h := newHost(t)
	_, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto6()}})
	must(t, err)
	for a, i := ip("2001:db8:1:0:789a::2"), 0; i < 1000; a, i = a.Next(), i+1 {
		h.foreign[a] = true
	}
	if a, err := h.engine.RequestAddress(t.Context(), onLinkPool, netip.Addr{}, false); err == nil {
		t.Errorf("%s was leased, a neighbour's", a)
	}
}

func TestConcurrentRequests(t *testing.T) {
	for _, request := range []spec.PoolRequest{auto6(), ula6(), auto4()} {
		h := newHost(t)
		p, err := h.engine.RequestPool(t.Context(), request)
		must(t, err)
		h.probeTime = time.Millisecond // for which the others wait
		ctx, stop := context.WithCancel(t.Context())
		var run, wg sync.WaitGroup
		run.Go(func() { _ = h.engine.Run(ctx) })
		var mu sync.Mutex
		seen := map[netip.Addr]bool{}
		for range 64 {
			wg.Go(func() {
				a, err := h.engine.RequestAddress(ctx, p.ID, netip.Addr{}, false)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || seen[a.Addr()] {
					t.Errorf("pool %s: %s, %v; leased before: %t", p.ID, a, err, seen[a.Addr()])
				}
				seen[a.Addr()] = true
			})
		}
		wg.Wait()
		stop()
		run.Wait()
	}
}

func TestExhaustedPool(t *testing.T) {
	for _, subnet := range []string{"2001:db8:ff::/126", "2001:db8:1:0:5::/126"} { // routed, and on the shared link
		h := newHost(t)
		p, err := h.engine.RequestPool(t.Context(), static(subnet))
		must(t, err)
		for range 3 {
			next(t, h, p.ID)
		}
		if a, err := h.engine.RequestAddress(t.Context(), p.ID, netip.Addr{}, false); !errors.Is(err, ipam.ErrExhausted) {
			t.Errorf("%s: fourth address %s, %v, want ErrExhausted", subnet, a, err)
		}
	}
}

// An address that was probed ahead is nobody's lease: it cannot be given back,
// and whoever names it takes it out of the batch.
func TestProbedAheadIsNoLease(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto6()}})
	must(t, err)
	first := next(t, h, onLinkPool)
	if err := h.engine.ReleaseAddress(t.Context(), onLinkPool, first.Next()); !errors.Is(err, spec.ErrNotFound) {
		t.Errorf("release of an address that was only probed: %v, want ErrNotFound", err)
	}
	named := first.Next().Next()
	_, err = h.engine.RequestAddress(t.Context(), onLinkPool, named, false)
	must(t, err)
	// An endpoint whose lease a restart took back, and whose address was probed since.
	adopted := named.Next()
	ep := spec.Endpoint{ID: epID(1), NetworkID: n.ID, IPv6: netip.PrefixFrom(adopted, 80)}
	_, err = h.engine.CreateEndpoint(t.Context(), ep)
	must(t, err)
	for range 40 {
		if a := next(t, h, onLinkPool); a == named || a == adopted || a == first {
			t.Fatalf("%s was leased a second time", a)
		}
	}
	if pool := h.engine.Status(t.Context()).Pools[0]; pool.Leases != 44 {
		t.Errorf("%d leases, want the gateway's, 3 and 40", pool.Leases)
	}
}

// An address is not free while an endpoint has it, whoever releases it.
func TestReleaseOfAnEndpointsAddress(t *testing.T) {
	h := newHost(t)
	n, err := h.createNetwork(t.Context(), dual(1))
	must(t, err)
	a := &attachment{id: epID(1)}
	must(t, h.run(t.Context(), n, a))
	if err := h.engine.ReleaseAddress(t.Context(), onLinkPool, a.leases[onLinkPool]); err == nil || errors.Is(err, spec.ErrNotFound) {
		t.Errorf("release under a running container: %v, want a refusal", err)
	}
	h.consistent(t, "after the refusal")
	must(t, h.stop(t.Context(), *a))
}

// A start takes back the leases that nothing accounts for, and no others.
func TestStartSweepsLeases(t *testing.T) {
	h := newHost(t)
	ctx := t.Context()
	p, err := h.engine.RequestPool(ctx, static("2001:db8:ff::/64"))
	must(t, err)
	gateway, err := h.engine.RequestAddress(ctx, p.ID, netip.Addr{}, true)
	must(t, err)
	aux, err := h.engine.RequestAddress(ctx, p.ID, ip("2001:db8:ff::aaaa"), false)
	must(t, err)
	n := spec.Network{ID: netID(1), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: p.Prefix, Gateway: gateway.Addr(), Aux: []netip.Addr{aux.Addr()}}}}
	must(t, h.engine.CreateNetwork(ctx, n))
	used, unused := next(t, h, p.ID), next(t, h, p.ID)
	_, err = h.engine.CreateEndpoint(ctx, spec.Endpoint{ID: epID(1), NetworkID: n.ID, IPv6: netip.PrefixFrom(used, 64)})
	must(t, err)
	other, err := h.engine.RequestPool(ctx, static("2001:db8:fe::/64")) // of a network of another driver
	must(t, err)
	others := next(t, h, other.ID)
	theirs, err := h.engine.RequestPool(ctx, static("2001:db8:fd::/64")) // likewise, without a container
	must(t, err)
	_, err = h.engine.RequestAddress(ctx, theirs.ID, netip.Addr{}, true)
	must(t, err)
	for _, request := range []spec.PoolRequest{static("2001:db8:fc::/64"), auto4(), auto6()} { // whose answer never came
		_, err = h.engine.RequestPool(ctx, request)
		must(t, err)
	}

	h.restart(t)
	h.settle(t)
	var pools []string
	for _, p := range h.engine.Status(ctx).Pools {
		pools = append(pools, p.ID)
	}
	if want := []string{theirs.ID, other.ID, p.ID}; !slices.Equal(pools, want) {
		t.Errorf("pools %q, want %q: those without a lease and a network are nobody's, the others somebody's", pools, want)
	}
	for addr, want := range map[netip.Addr]bool{gateway.Addr(): true, aux.Addr(): true, used: true, unused: false} {
		if _, kept := h.world.journal["lease "+p.ID+" "+addr.String()]; kept != want {
			t.Errorf("lease of %s kept: %t, want %t", addr, kept, want)
		}
	}
	if _, kept := h.world.journal["lease "+other.ID+" "+others.String()]; !kept {
		t.Error("a lease of another driver's network was taken back")
	}
	// The front end was only slow: its endpoint takes the lease again.
	_, err = h.engine.CreateEndpoint(ctx, spec.Endpoint{ID: epID(2), NetworkID: n.ID, IPv6: netip.PrefixFrom(unused, 64)})
	must(t, err)
	if _, err := h.engine.RequestAddress(ctx, p.ID, unused, false); !errors.Is(err, ipam.ErrTaken) {
		t.Errorf("the address of endpoint 2: %v, want ErrTaken", err)
	}
}

// A batch that is being probed is nobody's leases, as little as one that has been.
func TestBatchIsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		_, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto6()}})
		must(t, err)
		h.probeTime = time.Second
		answer := make(chan error)
		go func() {
			_, err := h.engine.RequestAddress(t.Context(), onLinkPool, netip.Addr{}, false)
			answer <- err
		}()
		synctest.Wait()
		if pool := h.engine.Status(t.Context()).Pools[0]; pool.Leases != 1 {
			t.Errorf("%d leases while a batch is probed, want the gateway's", pool.Leases)
		}
		if err := h.engine.ReleaseAddress(t.Context(), onLinkPool, ip("2001:db8:1:0:789a::5")); !errors.Is(err, spec.ErrNotFound) {
			t.Errorf("release of an address that is being probed: %v, want ErrNotFound", err)
		}
		must(t, <-answer)
		if pool := h.engine.Status(t.Context()).Pools[0]; pool.Leases != 2 {
			t.Errorf("%d leases, want the gateway's and the one that was asked for", pool.Leases)
		}
	})
}

// A pool that is released while one of its addresses is probed keeps no lease.
func TestPoolReleasedDuringProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		pristine := h.snapshot()
		p, err := h.engine.RequestPool(t.Context(), static("2001:db8:1:0:5::/80"))
		must(t, err)
		h.probeTime = time.Second
		answer := make(chan error)
		go func() {
			_, err := h.engine.RequestAddress(t.Context(), p.ID, netip.Addr{}, false)
			answer <- err
		}()
		synctest.Wait()
		must(t, h.engine.ReleasePool(t.Context(), p.ID))
		if err := <-answer; !errors.Is(err, spec.ErrNotFound) {
			t.Errorf("address of a released pool: %v, want ErrNotFound", err)
		}
		sameWorld(t, "after release", pristine, h.snapshot())
	})
}

// A user names an address that is in the batch which is being probed: `docker
// run --ip6` right after `docker network create`. Not in a synctest bubble,
// where a mutex stops the clock.
func TestAddressNamedDuringProbe(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(h *host)
		after   func(h *host)
		refused bool
	}{
		{name: "free", prepare: func(*host) {}},
		{name: "a neighbour's", prepare: func(h *host) { h.foreign[ip("2001:db8:1:0:789a::5")] = true }, refused: true},
		{name: "the batch's probe fails", prepare: func(h *host) { h.broken = "host: probe" }, after: func(h *host) { h.broken = "" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			n, err := h.createNetwork(t.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{auto6()}})
			must(t, err)
			tc.prepare(h)
			probing, answered := make(chan struct{}), make(chan struct{})
			first := sync.OnceFunc(func() { close(probing); <-answered })
			h.probing = first
			ctx, stop := context.WithCancel(t.Context())
			var background sync.WaitGroup
			background.Go(func() { _ = h.engine.Run(ctx) })
			defer background.Wait()
			defer stop()
			<-probing
			named := ip("2001:db8:1:0:789a::5")
			refused := make(chan error, 1)
			go func() {
				_, err := h.engine.RequestAddress(ctx, onLinkPool, named, false)
				refused <- err
			}()
			select {
			case err = <-refused:
				close(answered)
				t.Fatalf("answer before the probe's: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
			if tc.after != nil {
				h.world.mu.Lock()
				h.probing = func() { h.world.mu.Lock(); tc.after(h); h.world.mu.Unlock() } // from the second probe on
				h.world.mu.Unlock()
			}
			close(answered)
			if err := <-refused; (err != nil) != tc.refused {
				t.Fatalf("%s: %v, want refused: %t", named, err, tc.refused)
			}
			if tc.refused {
				return
			}
			if _, err := h.engine.RequestAddress(ctx, onLinkPool, named, false); !errors.Is(err, ipam.ErrTaken) {
				t.Errorf("the same address again: %v, want ErrTaken", err)
			}
			_, err = h.engine.CreateEndpoint(ctx, spec.Endpoint{ID: epID(1), NetworkID: n.ID, IPv6: netip.PrefixFrom(named, 80)})
			must(t, err)
		})
	}
}

// The container engine had no answer when it made an endpoint: it takes back
// the addresses alone. The endpoint must not keep them from the next one.
func TestReleaseOfAnAddressNeverJoined(t *testing.T) {
	for _, restart := range []bool{false, true} {
		h := newHost(t)
		ctx := t.Context()
		n, err := h.createNetwork(ctx, dual(1))
		must(t, err)
		before := h.snapshot()
		a := &attachment{id: epID(1)}
		ep, err := h.lease(ctx, n, a)
		must(t, err)
		_, err = h.engine.CreateEndpoint(ctx, ep)
		must(t, err)
		if restart {
			h.restart(t)
		}
		for _, pool := range []string{onLinkPool, pool4} {
			must(t, h.engine.ReleaseAddress(ctx, pool, a.leases[pool]))
		}
		sameWorld(t, "released", before, h.snapshot())
		if err := h.engine.DeleteEndpoint(ctx, n.ID, a.id); !errors.Is(err, spec.ErrNotFound) {
			t.Errorf("restart %t: delete the endpoint: %v, want ErrNotFound", restart, err)
		}
		// Joined and left, it is no longer a container's either.
		must(t, h.run(ctx, n, a))
		h.moveOut(a.id)
		must(t, h.engine.Leave(ctx, n.ID, a.id))
		for _, pool := range []string{pool4, onLinkPool} {
			must(t, h.engine.ReleaseAddress(ctx, pool, a.leases[pool]))
		}
		sameWorld(t, "released after Leave", before, h.snapshot())
	}
}
