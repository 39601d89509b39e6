//go:build bench

// Package bench_test measures v6net. Every number stands beside one of a named
// peer, taken in the same run on the same machine: only their ratio says
// anything elsewhere. Nothing here judges: the run fails when something cannot
// be measured, and not when it is slow. `make bench` runs it.
package bench_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }

// TestBench takes all measurements, prints them as a table and writes them to
// build/bench.json, .md and .svg, and into the pages of V6NET_BENCH_PAGES if that is given.
// A part that fails leaves the others' rows.
func TestBench(t *testing.T) {
	r := newReport(t)
	for _, part := range []struct {
		name    string
		measure func(*testing.T, *report)
	}{
		{"journal", measureJournal}, // first, while nothing else is being written to the disk
		{"ipam", measureIPAM},
		{"ndproxy", measureNDProxy},
		{"restart", measureRestart},
		{"daemon", measureDaemon},
		{"docker run", measureDockerRun},
		{"throughput", measureThroughput},
		{"firewall", measureFirewall},
		{"scale", measureScale},
	} {
		t.Run(part.name, func(t *testing.T) { part.measure(t, r) })
	}
	if err := r.print(os.Stdout); err != nil {
		t.Error(err)
	}
	if err := r.write(filepath.Join(moduleDir(t), "build/bench")); err != nil {
		t.Error(err)
	}
	if folder := os.Getenv("V6NET_BENCH_PAGES"); folder != "" {
		if err := r.publish(moduleDir(t), folder); err != nil {
			t.Error(err)
		}
	}
}

// moduleDir is the top of the source tree.
func moduleDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// built is the absolute path of what make has built.
func built(t *testing.T, path string) string {
	t.Helper()
	absolute := filepath.Join(moduleDir(t), path)
	if _, err := os.Stat(absolute); err != nil {
		t.Fatalf("run make plugin first: %v", err)
	}
	return absolute
}

// diskDir is a directory on the disk that the source is on, until the end of
// the test. Temporary directories are in memory on many machines, where writing
// a journal costs nothing.
func diskDir(t *testing.T) string {
	t.Helper()
	build := filepath.Join(moduleDir(t), "build")
	if err := os.MkdirAll(build, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(build, "bench.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove what was written to the disk: %v", err)
		}
	})
	return dir
}
