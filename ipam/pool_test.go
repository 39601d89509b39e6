package ipam

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/spec"
)

// prefix parses a prefix; empty is the zero prefix.
func prefix(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

func mustPool(t testing.TB, pool, within string, order spec.Allocation) *Pool {
	t.Helper()
	p, err := newPool(prefix(pool), prefix(within), order, rand.NewChaCha8([32]byte{6}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustAllocate(t testing.TB, p *Pool) netip.Addr {
	t.Helper()
	a, err := p.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// drain allocates until the pool is exhausted.
func drain(t testing.TB, p *Pool) []string {
	t.Helper()
	var got []string
	for {
		a, err := p.Allocate()
		if errors.Is(err, ErrExhausted) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a.String())
	}
}

func TestPoolHandsOutEveryAddressAHostMayHave(t *testing.T) {
	for _, tt := range []struct {
		name, pool, within string
		reserve            []string
		want               []string
	}{
		{name: "smallest IPv6", pool: "2001:db8::/126", want: []string{"2001:db8::1", "2001:db8::2", "2001:db8::3"}},
		{name: "smallest IPv4", pool: "10.0.0.0/30", want: []string{"10.0.0.1", "10.0.0.2"}},
		{name: "top of the address space", pool: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126",
			want: []string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffd", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
		{name: "top of IPv4", pool: "255.255.255.248/29", within: "255.255.255.252/30", want: []string{"255.255.255.252", "255.255.255.253", "255.255.255.254"}},
		{name: "host bits are masked", pool: "2001:db8::2/126", want: []string{"2001:db8::1", "2001:db8::2", "2001:db8::3"}},
		{name: "range only", pool: "2001:db8::/64", within: "2001:db8::a0/127", want: []string{"2001:db8::a0", "2001:db8::a1"}},
		{name: "range at the start", pool: "2001:db8::/64", within: "2001:db8::/127", want: []string{"2001:db8::1"}},
		{name: "range at the end of a /64", pool: "2001:db8::/64", within: "2001:db8::ffff:ffff:ffff:fffe/127",
			want: []string{"2001:db8::ffff:ffff:ffff:fffe", "2001:db8::ffff:ffff:ffff:ffff"}},
		{name: "explicit ones are passed over", pool: "10.0.0.0/29", reserve: []string{"10.0.0.2", "10.0.0.6"},
			want: []string{"10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.5"}},
		{name: "an anycast range that is not a /64's", pool: "2001:db8::fdff:ffff:ffff:fffc/126",
			want: []string{"2001:db8::fdff:ffff:ffff:fffd", "2001:db8::fdff:ffff:ffff:fffe", "2001:db8::fdff:ffff:ffff:ffff"}},
	} {
		for _, order := range []spec.Allocation{spec.Sequential, spec.Random} {
			t.Run(tt.name+"/"+string(order), func(t *testing.T) {
				p := mustPool(t, tt.pool, tt.within, order)
				for _, a := range tt.reserve {
					if err := p.Reserve(netip.MustParseAddr(a)); err != nil {
						t.Fatal(err)
					}
				}
				got := drain(t, p)
				if order == spec.Random {
					slices.SortFunc(got, func(a, b string) int { return netip.MustParseAddr(a).Compare(netip.MustParseAddr(b)) })
				}
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("addresses until exhaustion (-want +got):\n%s", d)
				}
			})
		}
	}
}

func TestAllocateSkipsSubnetAnycast(t *testing.T) { // RFC 2526
	p := mustPool(t, "2001:db8::/64", "2001:db8::fdff:ffff:ffff:ff00/119", spec.Sequential)
	if got := len(drain(t, p)); got != 512-128 {
		t.Errorf("%d addresses beside the anycast range, want %d", got, 512-128)
	}
	a := netip.MustParseAddr("2001:db8::fdff:ffff:ffff:fffe") // mobile IPv6 home agents
	if p.Leased(a) {
		t.Errorf("%s was handed out", a)
	}
	if err := p.Reserve(a); err != nil {
		t.Errorf("somebody who asks for an anycast address by name gets it: %v", err)
	}
}

func TestSequentialDoesNotReuseQuickly(t *testing.T) {
	p := mustPool(t, "10.0.0.0/29", "", spec.Sequential)
	first := mustAllocate(t, p)
	p.Release(first)
	for range 5 {
		if a := mustAllocate(t, p); a == first {
			t.Fatalf("%s handed out again while others had never been used", first)
		}
	}
	if a := mustAllocate(t, p); a != first {
		t.Errorf("after the last address came %s, want the released %s", a, first)
	}
}

func TestSequentialPassesAMillionLeases(t *testing.T) {
	p := mustPool(t, "2001:db8::/64", "", spec.Sequential)
	for range 1 << 20 {
		mustAllocate(t, p)
	}
	p.cursor = p.first
	if got, want := mustAllocate(t, p), netip.MustParseAddr("2001:db8::10:1"); got != want {
		t.Errorf("next free address from the start is %s, want %s", got, want)
	}
	hole := netip.MustParseAddr("2001:db8::8:8")
	p.Release(hole)
	p.cursor = p.first
	if got := mustAllocate(t, p); got != hole {
		t.Errorf("next free address is %s, want the hole %s", got, hole)
	}
}

func TestRandomIsSpread(t *testing.T) {
	p := mustPool(t, "2001:db8::/64", "", spec.Random)
	var ones [64]int
	const n = 4096
	for range n {
		h := p.hostPart(mustAllocate(t, p))
		for i := range ones {
			ones[i] += int(h >> i & 1)
		}
	}
	for i, c := range ones { // ±5 standard deviations of a fair coin
		if c < n/2-160 || c > n/2+160 {
			t.Errorf("bit %d of the host part is set in %d of %d addresses: not uniform", i, c, n)
		}
	}
	if a, b := mustAllocate(t, mustNew(t)), mustAllocate(t, mustNew(t)); a == b {
		t.Errorf("two pools begin with the same random address %s: not seeded", a)
	}
}

func mustNew(t *testing.T) *Pool {
	t.Helper()
	p, err := NewPool(prefix("2001:db8::/64"), netip.Prefix{}, spec.Random)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPoolErrors(t *testing.T) {
	p := mustPool(t, "2001:db8::/126", "", spec.Sequential)
	p4 := mustPool(t, "10.0.0.0/8", "", spec.Sequential)
	ranged := mustPool(t, "2001:db8::/64", "2001:db8::8/127", spec.Sequential)
	drain(t, p)
	drain(t, ranged)
	reserve := func(p *Pool, a string) func() error {
		return func() error { return p.Reserve(netip.MustParseAddr(a)) }
	}
	allocate := func(p *Pool) func() error {
		return func() error { _, err := p.Allocate(); return err }
	}
	for _, tt := range []struct {
		name string
		do   func() error
		want error
		text string
	}{
		{"exhausted", allocate(p), ErrExhausted, "exhausted: 3 leases"},
		{"exhausted range", allocate(ranged), ErrExhausted, "range 2001:db8::8/127 is exhausted: 2 leases"},
		{"taken", reserve(p, "2001:db8::3"), ErrTaken, "address 2001:db8::3 is already leased"},
		{"outside", reserve(p, "2001:db8::4"), ErrOutside, "address 2001:db8::4 is outside the pool"},
		{"other family", reserve(p, "10.0.0.1"), ErrOutside, ""},
		{"zone", reserve(p, "2001:db8::1%eth0"), ErrOutside, ""},
		{"mapped", reserve(p4, "::ffff:10.0.0.1"), ErrOutside, ""},
		{"subnet-router anycast", reserve(p, "2001:db8::"), ErrReserved, "address 2001:db8:: is reserved: it is the subnet-router anycast address (RFC 4291 §2.6.1)"},
		{"network", reserve(p4, "10.0.0.0"), ErrReserved, "address 10.0.0.0 is reserved: it is the network's own address"},
		{"broadcast", reserve(p4, "10.255.255.255"), ErrReserved, "address 10.255.255.255 is reserved: it is the broadcast address"},
		{"outside the range", reserve(ranged, "2001:db8::1"), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.do()
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if tt.text != "" && err.Error() != tt.text {
				t.Errorf("error says\n%q, want\n%q", err, tt.text)
			}
		})
	}
}

func TestNewPoolRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, pool, within string
		order              spec.Allocation
		want               string
	}{
		{"no prefix", "", "", spec.Sequential, "prefix length"},
		{"larger than a /64", "2001:db8::/63", "", spec.Sequential, "allowed: 64 to 126"},
		{"a /127", "2001:db8::/127", "", spec.Sequential, "allowed: 64 to 126"},
		{"all of IPv4", "0.0.0.0/0", "", spec.Sequential, "allowed: 8 to 30"},
		{"a /31", "10.0.0.0/31", "", spec.Sequential, "allowed: 8 to 30"},
		{"range outside", "2001:db8::/64", "2001:db8:0:1::/80", spec.Sequential, "not inside"},
		{"range larger", "2001:db8::/80", "2001:db8::/64", spec.Sequential, "not inside"},
		{"range of the other family", "2001:db8::/80", "10.0.0.0/30", spec.Sequential, "not inside"},
		{"range of reserved addresses", "2001:db8::/80", "2001:db8::/128", spec.Sequential, "no address"},
		{"range of anycast addresses", "2001:db8::/64", "2001:db8::fdff:ffff:ffff:ffc0/122", spec.Random, "no address"},
		{"range of the broadcast address", "10.0.0.0/24", "10.0.0.255/32", spec.Sequential, "no address"},
		{"order", "2001:db8::/64", "", "backwards", `"backwards"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewPool(prefix(tt.pool), prefix(tt.within), tt.order)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that says %q", err, tt.want)
			}
		})
	}
}

func TestAllMayUseThePool(t *testing.T) {
	p := mustPool(t, "2001:db8::/120", "", spec.Random)
	for range 100 {
		mustAllocate(t, p)
	}
	got := slices.Collect(p.All())
	if len(got) != 100 || !slices.IsSortedFunc(got, netip.Addr.Compare) {
		t.Errorf("All gave %d addresses, want 100 in ascending order: %v", len(got), got)
	}
	for a := range p.All() {
		p.Release(a)
	}
	if p.Len() != 0 {
		t.Errorf("%d leases left after each was released", p.Len())
	}
}

func TestPoolIsSafeForConcurrentUse(t *testing.T) {
	for _, order := range []spec.Allocation{spec.Sequential, spec.Random} {
		p := mustPool(t, "2001:db8::/116", "", order) // 4095 addresses
		const workers, each = 8, 500
		got := make([][]netip.Addr, workers)
		var wg sync.WaitGroup
		for i := range workers {
			wg.Go(func() {
				for range each {
					a, err := p.Allocate()
					if err != nil {
						t.Error(err)
						return
					}
					if a.As16()[15]%4 == 0 && !p.Release(a) {
						t.Errorf("%s allocated but not leased", a)
					} else if a.As16()[15]%4 != 0 {
						got[i] = append(got[i], a)
					}
				}
			})
		}
		wg.Wait()
		all := slices.Concat(got...)
		slices.SortFunc(all, netip.Addr.Compare)
		if d := cmp.Diff(all, slices.Collect(p.All()), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%s: held by the workers (-) and by the pool (+):\n%s", order, d)
		}
	}
}
