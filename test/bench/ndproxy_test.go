//go:build bench

package bench_test

import (
	"fmt"
	"testing"
)

// measureNDProxy: deciding on a solicitation, and making the answer, costs the
// same however many leases there are.
func measureNDProxy(t *testing.T, r *report) {
	outcomes := goBench(t, "./ndproxy", "^BenchmarkDecide$", "500000x")
	for _, target := range []string{"answer", "unknown"} {
		base := must(t, outcomes, "BenchmarkDecide/"+target+"/leases=1")
		for _, leases := range []string{"1000", "1000000"} {
			m := must(t, outcomes, "BenchmarkDecide/"+target+"/leases="+leases)
			r.add(row{
				What:  fmt.Sprintf("NDP proxy, %s, %s leases, %g allocations", target, leases, m.allocs),
				Value: m.ns, Unit: "ns", Peer: "itself with 1 lease", Beside: base.ns,
			})
		}
	}
}
