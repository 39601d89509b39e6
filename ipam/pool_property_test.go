package ipam

import (
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/v6net/v6net/internal/spec"
)

// The pool must agree with a plain map of leases, whatever is done to it.
func TestPoolAgreesWithMap(t *testing.T) { rapid.Check(t, poolAgreesWithMap) }

func FuzzPool(f *testing.F) { f.Fuzz(rapid.MakeFuzz(poolAgreesWithMap)) }

// smallPools can be exhausted and walked; the large one has the far end of a /64.
var smallPools = []string{"2001:db8::/126", "2001:db8::/119", "2001:db8:0:0:ffff:ffff:ffff:ff00/120", "10.0.0.0/30", "192.0.2.0/24"}

func poolAgreesWithMap(t *rapid.T) {
	whole := prefix(rapid.SampledFrom(smallPools).Draw(t, "pool"))
	size := uint64(1) << (whole.Addr().BitLen() - whole.Bits())
	var within netip.Prefix
	if rapid.Bool().Draw(t, "ranged") {
		longer := rapid.IntRange(0, min(4, whole.Addr().BitLen()-whole.Bits()-1)).Draw(t, "range bits")
		within = netip.PrefixFrom(part(whole, whole.Bits()+longer, rapid.Uint64().Draw(t, "range")), whole.Bits()+longer)
	}
	order := rapid.SampledFrom([]spec.Allocation{spec.Sequential, spec.Random}).Draw(t, "order")
	p, err := newPool(whole, within, order, rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	if err != nil {
		t.Fatal(err)
	}

	model := map[netip.Addr]bool{}
	usable := func(a netip.Addr) bool {
		return a != whole.Addr() && (a.Is6() || a != netipx.PrefixLastIP(whole))
	}
	allocatable := func() (free []netip.Addr) {
		in := within
		if !in.IsValid() {
			in = whole
		}
		for a := in.Addr(); in.Contains(a); a = a.Next() {
			if usable(a) && !model[a] {
				free = append(free, a)
			}
		}
		return free
	}
	last := whole.Addr()
	drawAddr := func(t *rapid.T) netip.Addr { // also one beyond the end
		return part(netip.PrefixFrom(whole.Addr(), whole.Bits()-1), whole.Addr().BitLen(), rapid.Uint64Range(0, size).Draw(t, "host part"))
	}

	t.Repeat(map[string]func(*rapid.T){
		"allocate": func(t *rapid.T) {
			free := allocatable()
			a, err := p.Allocate()
			if len(free) == 0 {
				if !errors.Is(err, ErrExhausted) {
					t.Fatalf("allocate from a full pool: %v, %v", a, err)
				}
				return
			}
			if err != nil || !slices.Contains(free, a) {
				t.Fatalf("allocate: %v, %v: not a free address of the range", a, err)
			}
			if order == spec.Sequential {
				want := free[0]
				if i := slices.IndexFunc(free, last.Less); i >= 0 {
					want = free[i]
				}
				if a != want {
					t.Fatalf("allocate after %s: %s, want the next free one, %s", last, a, want)
				}
			}
			last = a
			model[a] = true
		},
		"reserve": func(t *rapid.T) {
			a := drawAddr(t)
			var want error
			switch {
			case !whole.Contains(a):
				want = ErrOutside
			case !usable(a):
				want = ErrReserved
			case model[a]:
				want = ErrTaken
			}
			if err := p.Reserve(a); !errors.Is(err, want) {
				t.Fatalf("reserve %s: %v, want %v", a, err, want)
			}
			if want == nil {
				model[a] = true
			}
		},
		"release": func(t *rapid.T) {
			a := drawAddr(t)
			if got := p.Release(a); got != model[a] {
				t.Fatalf("release %s: %v, want %v", a, got, model[a])
			}
			delete(model, a)
		},
		"release all": func(t *rapid.T) {
			for a := range p.All() {
				p.Release(a)
			}
			clear(model)
		},
		"": func(t *rapid.T) {
			if p.Len() != len(model) {
				t.Fatalf("%d leases, want %d", p.Len(), len(model))
			}
			want := slices.SortedFunc(maps.Keys(model), netip.Addr.Compare)
			if got := slices.Collect(p.All()); !slices.Equal(got, want) {
				t.Fatalf("leases %v, want %v", got, want)
			}
		},
	})
}

// The bitset must agree with a plain map over the whole range of uint64, where
// the pools above cannot walk.
func TestBitsetAgreesWithMap(t *testing.T) { rapid.Check(t, bitsetAgreesWithMap) }

func bitsetAgreesWithMap(t *rapid.T) {
	var s bitset
	model := map[uint64]bool{}
	// Blocks of neighbours fill whole words on several levels, also at both ends.
	number := rapid.Custom(func(t *rapid.T) uint64 {
		block := rapid.SampledFrom([]uint64{0, 64, 4096, 1<<63 - 64, 1<<64 - 8192, 1<<64 - 64}).Draw(t, "block")
		return block + rapid.Uint64Range(0, 63).Draw(t, "n")
	})
	fill := func(from, n uint64) {
		for i := range n {
			if !model[from+i] {
				s.add(from + i)
				model[from+i] = true
			}
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"toggle": func(t *rapid.T) {
			n := number.Draw(t, "number")
			if model[n] {
				s.remove(n)
				delete(model, n)
			} else {
				s.add(n)
				model[n] = true
			}
		},
		"fill a word":          func(t *rapid.T) { fill(number.Draw(t, "number")&^63, 64) },
		"fill to the very end": func(t *rapid.T) { fill(1<<64-4096, 4096) },
		"fill two levels":      func(t *rapid.T) { fill(0, 4096) },
		"next": func(t *rapid.T) {
			from, to := number.Draw(t, "from"), number.Draw(t, "to")
			want, ok := from, from <= to
			for ok && model[want] {
				ok = want < to
				want++
			}
			if got, found := s.next(from, to); found != ok || found && got != want {
				t.Fatalf("next(%#x, %#x) = %#x, %v, want %#x, %v", from, to, got, found, want, ok)
			}
		},
		"list": func(t *rapid.T) {
			if want := slices.Sorted(maps.Keys(model)); !slices.Equal(s.sorted(), want) {
				t.Fatalf("members differ: %d, want %d", len(s.sorted()), len(want))
			}
		},
	})
	for n := range model {
		s.remove(n)
	}
	for level := range s {
		if len(s[level]) != 0 {
			t.Fatalf("level %d of the empty set keeps %d words", level, len(s[level]))
		}
	}
}
