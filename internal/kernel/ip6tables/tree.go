package ip6tables

import (
	"maps"
	"slices"
	"strings"
)

// leafEntries is up to how many entries a list of rules has; a longer one becomes a
// tree of such lists, so that a packet meets few of them.
const leafEntries = 16

// tree adds chains that lead a packet to the entry that it matches, if there is one.
// leaf is the target there; tail, if any, is the last rule of each chain. A branch is
// gone to, so that the end of each chain is the end of the first.
func (c *compiler) tree(name string, keys []string, entries []entry, leaf func(entry) string, tail string) error {
	out := c.chain(name)
	if len(entries) <= leafEntries {
		return c.leaves(out, keys, entries, leaf, tail)
	}
	split := make([][]string, len(entries))
	for i, e := range entries {
		split[i] = units(keys, e)
	}
	common := len(split[0])
	for _, u := range split[1:] {
		n := 0
		for n < min(common, len(u)) && u[n] == split[0][n] {
			n++
		}
		common = n
	}
	var here []entry
	branches := map[string][]entry{}
	for i, e := range entries {
		if len(split[i]) == common { // a prefix that has the others' in it
			here = append(here, e)
			continue
		}
		branches[split[i][common]] = append(branches[split[i][common]], e)
	}
	if len(branches) < 2 {
		return c.leaves(out, keys, entries, leaf, tail)
	}
	for place, unit := range sortedKeys(branches) {
		branch := branches[unit]
		if len(branch) == 1 {
			here = append(here, branch...)
			continue
		}
		match, err := partial(keys, branch[0], common+1)
		if err != nil {
			return err
		}
		below := name + branchName(unit, place)
		if !strings.Contains(name, ".") {
			below = name + "." + branchName(unit, place)
		}
		out.rules = append(out.rules, match+" -g "+below)
		if err := c.tree(below, keys, branch, leaf, tail); err != nil {
			return err
		}
	}
	return c.leaves(out, keys, here, leaf, tail)
}

// branchName is one letter: that of the unit, or one for its place.
func branchName(unit string, place int) string {
	if len(unit) == 1 {
		return unit
	}
	return string("0123456789abcdefghijklmnopqrstuvwxyz"[place%36])
}

func (c *compiler) leaves(out *chain, keys []string, entries []entry, leaf func(entry) string, tail string) error {
	for _, e := range entries {
		match, err := full(keys, e)
		if err != nil {
			return err
		}
		out.rules = append(out.rules, match+" "+leaf(e))
	}
	if tail != "" {
		out.rules = append(out.rules, tail)
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
