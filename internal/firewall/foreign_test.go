package firewall

import (
	"slices"
	"testing"
)

func TestPlaceOurs(t *testing.T) {
	ours, user, some := ForeignRule{Ours: true, Vouched: true}, ForeignRule{To: UserChain, All: true}, ForeignRule{}
	refuses, theirs := ForeignRule{Ends: true}, ForeignRule{Vouched: true}
	to := func(chain string) ForeignRule { return ForeignRule{To: chain, All: true} }
	chains := map[string][]ForeignRule{"log-and-refuse": {refuses, refuses}, "looks": {some, refuses}, "empty": nil, UserChain: nil}
	for name, tc := range map[string]struct {
		rules  []ForeignRule
		wanted bool
		gone   []int
		after  int
	}{
		"an empty chain":                      {nil, true, nil, 0},
		"not wanted":                          {[]ForeignRule{some, ours}, false, []int{1}, -1},
		"after all others":                    {[]ForeignRule{some, some}, true, nil, 2},
		"before what refuses all":             {[]ForeignRule{some, refuses, refuses}, true, nil, 1},
		"but not before what comes before":    {[]ForeignRule{refuses, some}, true, nil, 2},
		"before a chain that refuses all":     {[]ForeignRule{some, to("log-and-refuse"), to("empty")}, true, nil, 1},
		"after one that looks":                {[]ForeignRule{some, to("looks")}, true, nil, 2},
		"after one that cannot be read":       {[]ForeignRule{some, to("unknown")}, true, nil, 2},
		"after one that some are led to":      {[]ForeignRule{some, {To: "log-and-refuse"}}, true, nil, 2},
		"after Docker's, and what follows":    {[]ForeignRule{some, user, some, refuses}, true, nil, 3},
		"after Docker's, which is empty":      {[]ForeignRule{some, user, refuses}, true, nil, 2},
		"in its place":                        {[]ForeignRule{user, some, ours}, true, nil, -1},
		"in its place, and once more":         {[]ForeignRule{user, some, ours, ours}, true, []int{3}, -1},
		"in another place":                    {[]ForeignRule{user, ours, some}, true, []int{1}, 2},
		"what carries our comment alone":      {[]ForeignRule{user, {Ours: true}}, true, []int{1}, 1},
		"an administrator's will do":          {[]ForeignRule{theirs, refuses}, true, nil, -1},
		"an administrator's, and ours before": {[]ForeignRule{ours, theirs}, true, []int{0}, -1},
	} {
		gone, after := PlaceOurs(tc.rules, tc.wanted, func(name string) ([]ForeignRule, bool) {
			rules, known := chains[name]
			return rules, known
		})
		if !slices.Equal(gone, tc.gone) || after != tc.after {
			t.Errorf("%s: gone are %v, and ours comes after %d, want %v and %d", name, gone, after, tc.gone, tc.after)
		}
	}
}
