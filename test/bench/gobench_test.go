//go:build bench

package bench_test

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// measurement is the outcome of one Go benchmark.
type measurement struct {
	ns     float64 // per operation
	allocs float64 // per operation
}

// runs is how often every Go benchmark is repeated. The fastest counts: what
// else the machine does can only add to it.
const runs = 3

// goBench runs benchmarks of a package of ours and returns their outcomes by
// name. Temporary files are on the disk.
func goBench(t *testing.T, pkg, pattern, benchtime string) map[string]measurement {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-run=^$", "-bench="+pattern, "-benchmem",
		"-benchtime="+benchtime, "-count="+strconv.Itoa(runs), "-cpu=1", pkg)
	cmd.Dir = moduleDir(t)
	cmd.Env = append(os.Environ(), "TMPDIR="+diskDir(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	fastest := map[string]measurement{}
	for line := range strings.Lines(string(out)) {
		name, m, ok := parseBenchmark(line)
		if best, seen := fastest[name]; ok && (!seen || m.ns < best.ns) {
			fastest[name] = m
		}
	}
	return fastest
}

// parseBenchmark reads a line of the format for benchmarks
// (https://go.dev/design/14313-benchmark-format).
func parseBenchmark(line string) (name string, m measurement, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
		return "", m, false
	}
	for i := 2; i+1 < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return "", m, false
		}
		switch fields[i+1] {
		case "ns/op":
			m.ns = value
		case "allocs/op":
			m.allocs = value
		}
	}
	return fields[0], m, true
}

// must is the outcome of a benchmark that has to be there.
func must(t *testing.T, outcomes map[string]measurement, name string) measurement {
	t.Helper()
	m, ok := outcomes[name]
	if !ok {
		t.Fatalf("no benchmark is called %s any more", name)
	}
	return m
}

// measureIPAM: an allocation costs the same however many leases there are.
func measureIPAM(t *testing.T, r *report) {
	outcomes := goBench(t, "./ipam", "^BenchmarkAllocate$", "100000x")
	for _, order := range []string{"sequential", "random"} {
		base := must(t, outcomes, "BenchmarkAllocate/"+order+"/10")
		for _, leases := range []string{"1000", "100000", "1000000"} {
			m := must(t, outcomes, "BenchmarkAllocate/"+order+"/"+leases)
			r.add(row{
				What:  fmt.Sprintf("allocate an address, %s, %s leases, %g allocations", order, leases, m.allocs),
				Value: m.ns, Unit: "ns", Peer: "itself with 10 leases", Beside: base.ns, Wanted: below(2000),
			})
		}
	}
}

// transactions are those of one run.
const transactions = 300

// measureJournal: what a lease costs with the journal is what the disk costs.
// A transaction of bbolt waits for the disk twice: for its pages, and for the
// meta page that makes them count.
func measureJournal(t *testing.T, r *report) {
	outcomes := goBench(t, "./internal/store", "^BenchmarkLease$", fmt.Sprint(transactions, "x"))
	disk := measureSync(t)
	for _, leases := range []string{"10", "100000"} {
		m := must(t, outcomes, "BenchmarkLease/leases="+leases)
		r.add(row{
			What:  fmt.Sprintf("write a lease to the journal, %s leases", leases),
			Value: m.ns / 1e6, Unit: "ms", Peer: "two writes of a page and fdatasync", Beside: disk, Wanted: below(1),
		})
	}
}

// measureSync is how long two writes of a page to the disk take on average, in
// the fastest of as many runs as a benchmark has; in milliseconds.
func measureSync(t *testing.T) float64 {
	t.Helper()
	f, err := os.Create(filepath.Join(diskDir(t), "pages"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	page := make([]byte, os.Getpagesize())
	fastest := time.Duration(math.MaxInt64)
	for range runs {
		began := time.Now()
		for i := range int64(2 * transactions) {
			if _, err := f.WriteAt(page, i%2*int64(len(page))); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				t.Fatal(err)
			}
		}
		fastest = min(fastest, time.Since(began)/transactions)
	}
	return milliseconds(fastest)
}
