package engine_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// crowd is a host with a network on which so many containers run, every tenth
// with a published port.
func crowd(b *testing.B, containers int) (*host, spec.Network) {
	h := newHost(b)
	n, err := h.createNetwork(b.Context(), recipe{id: netID(1), pools: []spec.PoolRequest{static("2001:db8:ff::/64")}})
	must(b, err)
	for i := range containers {
		a := &attachment{id: epID(i)}
		if i%10 == 0 {
			a.ports = []spec.Port{{Protocol: "tcp", Port: 80}}
		}
		must(b, h.run(b.Context(), n, a))
	}
	h.disarm()
	return h, n
}

// BenchmarkEndpoint is what a container's start and end cost beside others, the
// kernel and the disk left aside.
func BenchmarkEndpoint(b *testing.B) {
	for _, published := range []bool{false, true} {
		for _, containers := range []int{10, 1_000} {
			b.Run(fmt.Sprintf("published=%t/endpoints=%d", published, containers), func(b *testing.B) {
				h, n := crowd(b, containers)
				ctx, id := b.Context(), epID(1<<30)
				ep := spec.Endpoint{ID: id, NetworkID: n.ID, IPv6: netip.PrefixFrom(ip("2001:db8:ff::ffff"), 64)}
				b.ReportAllocs()
				for b.Loop() {
					_, err := h.engine.CreateEndpoint(ctx, ep)
					must(b, err)
					_, err = h.engine.Join(ctx, n.ID, id, "/run/sandbox")
					must(b, err)
					if published {
						must(b, h.engine.Publish(ctx, n.ID, id, []spec.Port{{Protocol: "tcp", Port: 80}}))
					}
					must(b, h.engine.DeleteEndpoint(ctx, n.ID, id))
					h.disarm() // or the list of calls grows
				}
			})
		}
	}
}

// BenchmarkReplay is a start with containers that run.
func BenchmarkReplay(b *testing.B) {
	h, _ := crowd(b, 1_000)
	b.ReportAllocs()
	for b.Loop() {
		h.restart(b)
	}
}
