package ndproxy

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// A Table does what a map does.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table Table
		model := map[netip.Addr]bool{}
		addrs := rapid.Custom(func(t *rapid.T) netip.Addr { return numbered(rapid.Uint64Range(0, 200).Draw(t, "n")) })
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				if a := addrs.Draw(t, "address"); table.Add(a) == model[a] {
					t.Fatalf("Add(%v) of what was there: %v", a, model[a])
				} else {
					model[a] = true
				}
			},
			"remove": func(t *rapid.T) {
				if a := addrs.Draw(t, "address"); table.Remove(a) != model[a] {
					t.Fatalf("Remove(%v) of what was there: %v", a, model[a])
				} else {
					delete(model, a)
				}
			},
			"reserve": func(t *rapid.T) { table.Reserve(rapid.IntRange(0, 300).Draw(t, "n")) },
			"remove all": func(t *rapid.T) {
				for a := range model {
					table.Remove(a)
				}
				clear(model)
			},
			"": func(t *rapid.T) {
				if a := addrs.Draw(t, "address"); table.Has(a) != model[a] {
					t.Fatalf("Has(%v) is %v", a, !model[a])
				}
				if table.Len() != len(model) {
					t.Fatalf("Len %d, want %d", table.Len(), len(model))
				}
				got, want := slices.SortedFunc(table.All(), netip.Addr.Compare), slices.SortedFunc(maps.Keys(model), netip.Addr.Compare)
				if !slices.Equal(got, want) {
					t.Fatalf("All %v, want %v", got, want)
				}
			},
		})
	})
}

func TestTableTakesOnlyIPv6(t *testing.T) {
	var table Table
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1%eth0")} {
		if table.Add(a) || table.Has(a) || table.Remove(a) {
			t.Errorf("%v was taken", a)
		}
	}
}

// Readers see every address that stays, and none that never came, while the
// table grows and shrinks under them.
func TestTableConcurrently(t *testing.T) {
	var table Table
	const stay, churn = 100, 3000
	for i := range uint64(stay) {
		table.Add(numbered(i))
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for i := uint64(0); ; i++ {
				select {
				case <-done:
					return
				default:
				}
				if !table.Has(numbered(i % stay)) {
					t.Errorf("%v is missing", numbered(i%stay))
					return
				}
				if never := numbered(1<<32 + i); table.Has(never) {
					t.Errorf("%v was never added", never)
					return
				}
			}
		})
	}
	for range 3 {
		for i := range uint64(churn) {
			table.Add(numbered(stay + i))
		}
		for i := range uint64(churn) {
			table.Remove(numbered(stay + i))
		}
	}
	close(done)
	readers.Wait()
	if table.Len() != stay {
		t.Errorf("Len %d, want %d", table.Len(), stay)
	}
}

// numbered is the nth address of a prefix.
func numbered(n uint64) netip.Addr {
	b := netip.MustParseAddr("2001:db8::").As16()
	binary.BigEndian.PutUint64(b[8:], n)
	return netip.AddrFrom16(b)
}
