package ndproxy

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// firstLease is the number of the first lease, none of which is the solicitor's own address.
const firstLease = 1 << 16

var leaseCounts = []int{1, 1000, 100_000, 1_000_000}

// BenchmarkDecide is decision and answer for one frame, of many in random order,
// by number of leases.
func BenchmarkDecide(b *testing.B) {
	for _, n := range leaseCounts {
		var table Table
		for i := range uint64(n) {
			table.Add(numbered(firstLease + i))
		}
		for name, first := range map[string]uint64{"answer": firstLease, "unknown": 1 << 40} {
			frames := make([][]byte, 4096)
			for i := range frames {
				frames[i] = multicast(numbered(first + rand.Uint64N(uint64(n)))).marshal(b)
			}
			b.Run(fmt.Sprintf("%s/leases=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				out := make([]byte, 0, FrameLen)
				for i := 0; b.Loop(); i++ {
					v := Decide(frames[i%len(frames)], here, &table)
					if v.Action() == Answer {
						out = v.Advertisement.AppendFrame(out[:0])
					} else if first == firstLease {
						b.Fatal(v.Reason)
					}
				}
			})
		}
	}
}

func BenchmarkTableHas(b *testing.B) {
	for _, n := range leaseCounts {
		var table Table
		for i := range uint64(n) {
			table.Add(numbered(i))
		}
		b.Run(fmt.Sprintf("leases=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !table.Has(numbered(rand.Uint64N(uint64(n)))) {
					b.Fatal("missing")
				}
			}
		})
	}
}

// BenchmarkTableAdd is how long it takes to add n leases to an empty table, and
// the longest that one of them took.
func BenchmarkTableAdd(b *testing.B) {
	for _, n := range leaseCounts {
		b.Run(fmt.Sprintf("leases=%d", n), func(b *testing.B) {
			var longest time.Duration
			for b.Loop() {
				var table Table
				for i := range uint64(n) {
					began := time.Now()
					table.Add(numbered(i))
					longest = max(longest, time.Since(began))
				}
			}
			b.ReportMetric(float64(longest.Microseconds()), "longest-µs")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/add")
		})
	}
}
