package ipam

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// forEachSize runs a benchmark on a /64 that has so many leases, in both orders,
// and reports what a lease costs.
func forEachSize(b *testing.B, run func(b *testing.B, p *Pool)) {
	for _, order := range []spec.Allocation{spec.Sequential, spec.Random} {
		for _, leases := range []int{10, 1_000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d", order, leases), func(b *testing.B) {
				before := heap()
				p := mustPool(b, "2001:db8::/64", "", order)
				for range leases {
					mustAllocate(b, p)
				}
				cost := float64(heap()-before) / float64(leases)
				b.ReportAllocs()
				run(b, p)
				b.ReportMetric(cost, "B/lease")
			})
		}
	}
}

// BenchmarkAllocate measures one Allocate at a number of leases. The new ones
// are taken back, outside the clock, before they change that number much.
func BenchmarkAllocate(b *testing.B) {
	forEachSize(b, func(b *testing.B, p *Pool) {
		batch := make([]netip.Addr, 0, max(10, p.Len()/10))
		b.ResetTimer()
		for range b.N {
			batch = append(batch, mustAllocate(b, p))
			if len(batch) == cap(batch) {
				b.StopTimer()
				for _, a := range batch {
					p.Release(a)
				}
				batch = batch[:0]
				b.StartTimer()
			}
		}
	})
}

// BenchmarkChurn measures Release and Allocate, oldest lease first.
func BenchmarkChurn(b *testing.B) {
	forEachSize(b, func(b *testing.B, p *Pool) {
		held := make([]netip.Addr, 0, p.Len())
		for a := range p.All() {
			held = append(held, a)
		}
		b.ResetTimer()
		for i := range b.N {
			k := i % len(held)
			if !p.Release(held[k]) {
				b.Fatal("lost a lease")
			}
			held[k] = mustAllocate(b, p)
		}
	})
}

// BenchmarkAllocateBehindLeases measures the worst case: the cursor is at the
// start of a run of leases, and the next free address at its end.
func BenchmarkAllocateBehindLeases(b *testing.B) {
	for _, leases := range []int{10, 1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(leases), func(b *testing.B) {
			p := mustPool(b, "2001:db8::/64", "", spec.Sequential)
			for range leases {
				mustAllocate(b, p)
			}
			b.ResetTimer()
			for range b.N {
				p.cursor = p.first
				p.Release(mustAllocate(b, p))
			}
		})
	}
}

// BenchmarkCarve measures a search past many taken parts.
func BenchmarkCarve(b *testing.B) {
	from := prefix("2001:db8::/48")
	for _, n := range []int{10, 1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var taken []netip.Prefix
			for i := range uint64(n) {
				taken = append(taken, netip.PrefixFrom(part(from, 80, i), 80))
			}
			b.ResetTimer()
			for range b.N {
				if _, err := Carve(from, 80, taken, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A /64 must cost what is leased in it (moby#40275: an IPv6 pool ate all memory).
func TestPoolCostsItsLeases(t *testing.T) {
	const leases = 1_000
	before := heap()
	var pools []*Pool
	for range 100 {
		p := mustPool(t, "2001:db8::/64", "", spec.Random)
		for range leases {
			mustAllocate(t, p)
		}
		pools = append(pools, p)
	}
	if perLease := (heap() - before) / (100 * leases); perLease > 128 {
		t.Errorf("%d bytes per lease of a /64, want at most 128", perLease)
	}
	runtime.KeepAlive(pools)
}
