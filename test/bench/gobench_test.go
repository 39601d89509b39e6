//go:build bench

package bench_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// runs is how often every Go benchmark is repeated. The median counts.
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
	all := map[string][]measurement{}
	for line := range strings.Lines(string(out)) {
		if name, m, ok := parseBenchmark(line); ok {
			all[name] = append(all[name], m)
		}
	}
	medians := map[string]measurement{}
	for name, ms := range all {
		if len(ms) != runs {
			t.Fatalf("%s %s: %d outcomes, want %d", pkg, name, len(ms), runs)
		}
		slices.SortFunc(ms, func(a, b measurement) int { return cmp.Compare(a.ns, b.ns) })
		medians[name] = ms[runs/2]
	}
	return medians
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

// measureJournal: what a lease costs with the journal is what the disk costs.
// A transaction of bbolt waits for the disk twice: for its pages, and for the
// meta page that makes them count.
func measureJournal(t *testing.T, r *report) {
	outcomes := goBench(t, "./internal/store", "^BenchmarkLease$", "300x")
	disk := measureSync(t)
	for _, leases := range []string{"10", "100000"} {
		m := must(t, outcomes, "BenchmarkLease/leases="+leases)
		r.add(row{
			What:  fmt.Sprintf("write a lease to the journal, %s leases", leases),
			Value: m.ns / 1e6, Unit: "ms", Peer: "two writes of a page and fdatasync", Beside: disk, Wanted: below(1),
		})
	}
}

// measureSync is the median time of two writes of a page to the disk, in milliseconds.
func measureSync(t *testing.T) float64 {
	t.Helper()
	f, err := os.Create(filepath.Join(diskDir(t), "pages"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	page := make([]byte, os.Getpagesize())
	var times sample
	for range 300 {
		began := time.Now()
		for i := range int64(2) {
			if _, err := f.WriteAt(page, i*int64(len(page))); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				t.Fatal(err)
			}
		}
		times = append(times, time.Since(began))
	}
	return times.median()
}
