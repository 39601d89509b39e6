package prefix

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

func delegations(texts ...string) []spec.Delegation {
	var lent []spec.Delegation
	for _, p := range prefixes(texts) {
		lent = append(lent, spec.Delegation{Source: spec.SourcePD, Parent: "eth0", Prefix: p})
	}
	return lent
}

func TestAssign(t *testing.T) {
	claim := func(key string, bits int, index uint64, has string) Claim {
		c := Claim{Key: key, Bits: bits, Index: index}
		if has != "" {
			c.Has = netip.MustParsePrefix(has)
		}
		return c
	}
	own := func(c Claim, p string) Claim { c.Own = prefixes([]string{p}); return c }
	for _, tt := range []struct {
		name   string
		lent   []spec.Delegation
		claims []Claim
		taken  []string
		want   map[string]string
		failed string // part of the errors; empty: none fails
	}{
		{name: "the same index of the next delegation", lent: delegations("2001:db8:f100::/56"),
			claims: []Claim{claim("a", 64, 0, "2001:db8:f000::/64"), claim("b", 64, 7, "2001:db8:f000:7::/64")},
			want:   map[string]string{"a": "2001:db8:f100::/64", "b": "2001:db8:f100:7::/64"}},
		{name: "what it has, though another is better", lent: delegations("2001:db8:f100::/56", "2001:db8:f000::/56"),
			claims: []Claim{claim("a", 64, 3, "2001:db8:f000:3::/64")},
			want:   map[string]string{"a": "2001:db8:f000:3::/64"}},
		{name: "an index that a smaller delegation lacks", lent: delegations("2001:db8:f100::/62"),
			claims: []Claim{claim("a", 64, 9, ""), claim("b", 64, 0, ""), claim("c", 64, 1, "")},
			want:   map[string]string{"a": "2001:db8:f100:2::/64", "b": "2001:db8:f100::/64", "c": "2001:db8:f100:1::/64"}},
		{name: "two delegations become one", lent: delegations("2001:db8:f100::/56"),
			claims: []Claim{claim("a", 64, 0, "2001:db8:f000::/64"), claim("b", 64, 0, "2001:db8:f001::/64")},
			want:   map[string]string{"a": "2001:db8:f100::/64", "b": "2001:db8:f100:1::/64"}},
		{name: "another has gone to the second one", lent: delegations("2001:db8:f100::/64", "2001:db8:f200::/64"),
			claims: []Claim{claim("a", 64, 0, ""), claim("b", 64, 0, "2001:db8:f100::/64")},
			want:   map[string]string{"a": "2001:db8:f200::/64", "b": "2001:db8:f100::/64"}},
		{name: "the name of another", lent: delegations("2001:db8:f000::/56"),
			claims: []Claim{own(claim("a", 64, 5, ""), "2001:db8:f000::/64"), claim("b", 64, 0, "")},
			want:   map[string]string{"a": "2001:db8:f000:5::/64", "b": "2001:db8:f000:1::/64"}},
		{name: "its own name", lent: delegations("2001:db8:f000::/56"), claims: []Claim{own(claim("a", 64, 5, ""), "2001:db8:f000:5::/64")},
			want: map[string]string{"a": "2001:db8:f000:5::/64"}},
		{name: "what the host uses", lent: delegations("2001:db8:f000::/56"), claims: []Claim{claim("a", 64, 0, "")}, taken: []string{"2001:db8:f000::1/128"},
			want: map[string]string{"a": "2001:db8:f000:1::/64"}},
		{name: "lengths side by side", lent: delegations("2001:db8:f000::/56"), claims: []Claim{claim("a", 80, 65536, ""), claim("b", 64, 1, ""), claim("c", 64, 0, "")},
			want: map[string]string{"a": "2001:db8:f000:1::/80", "b": "2001:db8:f000:2::/64", "c": "2001:db8:f000::/64"}},
		{name: "too many", lent: delegations("2001:db8:f000::/63"), claims: []Claim{claim("a", 64, 0, ""), claim("b", 64, 1, ""), claim("c", 64, 2, "")},
			want: map[string]string{"a": "2001:db8:f000::/64", "b": "2001:db8:f000:1::/64"}, failed: "2001:db8:f000::/63 is exhausted: no free /64 in it"},
		{name: "too small", lent: delegations("2001:db8:f000::/80"), claims: []Claim{claim("a", 64, 0, "")}, failed: "a /64 is not a part of 2001:db8:f000::/80"},
		{name: "nothing", claims: []Claim{claim("a", 64, 0, "2001:db8:f000::/64")}, failed: "nothing is lent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, failed := Assign(tt.lent, tt.claims, prefixes(tt.taken))
			parts := map[string]string{}
			for key, a := range got {
				parts[key] = a.Part.String()
			}
			if tt.want == nil {
				tt.want = map[string]string{}
			}
			if diff := cmp.Diff(tt.want, parts); diff != "" {
				t.Errorf("parts (-want +got):\n%s", diff)
			}
			for key, err := range failed {
				if tt.failed == "" || !errors.Is(err, ipam.ErrExhausted) || !strings.Contains(err.Error(), tt.failed) {
					t.Errorf("%s: %v, want %q", key, err, tt.failed)
				}
			}
			if tt.failed != "" && len(failed) == 0 {
				t.Error("none failed")
			}
		})
	}
}

// However claims and delegations come and go: parts never overlap, lie in what is
// lent, stay while they can, and are the same when the same is asked again, in
// whatever order. A claim that has the only one of its index gets that index.
func TestAssignHolds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bases := []string{"2001:db8:a000::", "2001:db8:b000::", "2001:db8:c000::"}
		claims := map[string]Claim{}
		for step := range rapid.IntRange(1, 8).Draw(rt, "steps") {
			for range rapid.IntRange(0, 3).Draw(rt, "come") {
				key := fmt.Sprintf("%02d", rapid.IntRange(0, 20).Draw(rt, "key"))
				if _, known := claims[key]; !known {
					claims[key] = Claim{Key: key, Bits: rapid.SampledFrom([]int{64, 64, 72, 80}).Draw(rt, "bits"), Index: rapid.Uint64Range(0, 5).Draw(rt, "index")}
				}
			}
			for range rapid.IntRange(0, 1).Draw(rt, "go") {
				delete(claims, fmt.Sprintf("%02d", rapid.IntRange(0, 20).Draw(rt, "gone")))
			}
			var lent []spec.Delegation
			for _, base := range rapid.SliceOfDistinct(rapid.SampledFrom(bases), rapid.ID).Draw(rt, "lent") {
				lent = append(lent, delegations(fmt.Sprintf("%s/%d", base, rapid.IntRange(54, 66).Draw(rt, "length")))...)
			}
			var taken []netip.Prefix
			for _, base := range rapid.SliceOf(rapid.SampledFrom(bases)).Draw(rt, "taken of") {
				part, _ := ipam.Part(netip.MustParsePrefix(base+"/56"), rapid.SampledFrom([]int{62, 64, 80}).Draw(rt, "taken length"), rapid.Uint64Range(0, 7).Draw(rt, "taken"))
				taken = append(taken, part)
			}
			var all []Claim
			for _, c := range claims {
				all = append(all, c)
			}
			got, failed := Assign(lent, all, taken)
			slices.SortFunc(all, func(a, b Claim) int { return strings.Compare(b.Key, a.Key) })
			again, _ := Assign(lent, all, taken)
			if !cmp.Equal(got, again, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) {
				rt.Fatalf("step %d: the order of claims matters", step)
			}
			for key, c := range claims {
				a, ok := got[key]
				if ok == (failed[key] != nil) {
					rt.Fatalf("step %d: claim %s has %v and error %v", step, key, a, failed[key])
				}
				if !ok {
					c.Has = netip.Prefix{}
					claims[key] = c
					continue
				}
				if a.Part.Bits() != c.Bits || !a.Of.Prefix.Overlaps(a.Part) || a.Of.Prefix.Bits() > a.Part.Bits() {
					rt.Fatalf("step %d: claim %+v has got %s of %s", step, c, a.Part, a.Of.Prefix)
				}
				for other, b := range got {
					if other != key && b.Part.Overlaps(a.Part) {
						rt.Fatalf("step %d: %s and %s overlap", step, a.Part, b.Part)
					}
				}
				kept := c.Has.IsValid() && slices.ContainsFunc(lent, func(d spec.Delegation) bool { return d.Prefix.Bits() <= c.Has.Bits() && d.Prefix.Overlaps(c.Has) })
				if kept && a.Part != c.Has {
					rt.Fatalf("step %d: claim %s had %s, which is lent still, and got %s", step, key, c.Has, a.Part)
				}
				if a.Part != c.Has && slices.ContainsFunc(taken, a.Part.Overlaps) {
					rt.Fatalf("step %d: claim %s has got %s, of which others have %v", step, key, a.Part, taken)
				}
				for _, other := range all {
					if a.Part != c.Has && other.Key != key && slices.ContainsFunc(other.Own, a.Part.Overlaps) {
						rt.Fatalf("step %d: claim %s has got %s, of which claim %s has %v", step, key, a.Part, other.Key, other.Own)
					}
				}
				c.Has, c.Index = a.Part, a.Index
				if len(c.Own) == 0 {
					c.Own = []netip.Prefix{a.Part} // the name, for good
				}
				c.Own = append(c.Own[:1:1], a.Part)
				claims[key] = c
			}
		}
	})
}
