//go:build netns

package ndbpf

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/v6net/v6net/internal/testnet"
)

// A table does what a map does, and holds as many as it was made for.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 2000).Draw(t, "size")
		table, err := newTable(n)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = table.close() }()
		model := map[[2]uint64]bool{}
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			k := key(numbered(rapid.Uint64Range(0, 1000).Draw(t, "n")))
			if rapid.Bool().Draw(t, "add") {
				if err := table.add(k); err != nil {
					t.Fatal(err)
				}
				model[k] = true
			} else {
				table.remove(k)
				delete(model, k)
			}
			if _, _, there := table.find(k); there != model[k] {
				t.Fatalf("%x is there: %v", k, there)
			}
		}
		found := map[[2]uint64]bool{}
		if err := table.all(func(k [2]uint64) error { found[k] = true; return nil }); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(found) != fmt.Sprint(model) || table.live != len(model) {
			t.Fatalf("%d live: %v, want %v", table.live, found, model)
		}
	})
	table, err := newTable(100_000)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = table.close() }()
	for i := range uint64(100_000) {
		if err := table.add(key(numbered(i))); err != nil {
			t.Fatalf("%d of 100000: %v", i, err)
		}
	}
	for i := uint64(100_000); ; i++ {
		if err := table.add(key(numbered(i))); errors.Is(err, errTableFull) {
			break
		} else if err != nil || i > 1<<20 {
			t.Fatalf("add of %d: %v", i, err)
		}
	}
}

// BenchmarkLeases is how long it takes to add a million leases, and to add and
// remove one more, with the longest of each.
func BenchmarkLeases(b *testing.B) {
	testnet.Connect(b, testnet.Self(b), "eth0", testnet.New(b, "up"), "lan0")
	for b.Loop() {
		dialed, err := Dial(b.Context(), "eth0")
		conn := loaded(b, dialed, err)
		const n = 1_000_000
		began := time.Now()
		var longest time.Duration
		for i := range uint64(n) {
			at := time.Now()
			if err := conn.Add(numbered(i)); err != nil {
				b.Fatal(err)
			}
			longest = max(longest, time.Since(at))
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/million")
		b.ReportMetric(float64(longest.Microseconds()), "longest-add-µs")
		began = time.Now()
		const churn = 100_000
		for i := range uint64(churn) {
			addr := numbered(i * 7 % n)
			if err := errors.Join(conn.Remove(addr), conn.Add(addr)); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(time.Since(began).Nanoseconds())/churn/2, "ns/change")
		if err := conn.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
