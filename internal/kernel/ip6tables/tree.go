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
	split := make([]branch, len(entries))
	for i, e := range entries {
		split[i] = branch{e, units(keys, e)}
	}
	return c.grow(name, keys, split, leaf, tail)
}

// branch is an entry with the units that it is told by.
type branch struct {
	entry entry
	units []string
}

func (c *compiler) grow(name string, keys []string, entries []branch, leaf func(entry) string, tail string) error {
	out := c.chain(name)
	if len(entries) <= leafEntries {
		return c.leaves(out, keys, unsplit(entries), leaf, tail)
	}
	first := entries[0].units
	common := len(first)
	for _, e := range entries[1:] {
		n := 0
		for n < min(common, len(e.units)) && e.units[n] == first[n] {
			n++
		}
		common = n
	}
	var here []branch
	branches := map[string][]branch{}
	for _, e := range entries {
		if len(e.units) == common { // a prefix that has the others' in it
			here = append(here, e)
			continue
		}
		branches[e.units[common]] = append(branches[e.units[common]], e)
	}
	if len(branches) < 2 {
		return c.leaves(out, keys, unsplit(entries), leaf, tail)
	}
	for place, unit := range sortedKeys(branches) {
		below := branches[unit]
		if len(below) == 1 {
			here = append(here, below...)
			continue
		}
		match, err := partial(keys, below[0].entry, common+1)
		if err != nil {
			return err
		}
		to := name + branchName(unit, place)
		if !strings.Contains(name, ".") {
			to = name + "." + branchName(unit, place)
		}
		out.rules = append(out.rules, match+" -g "+to)
		if err := c.grow(to, keys, below, leaf, tail); err != nil {
			return err
		}
	}
	return c.leaves(out, keys, unsplit(here), leaf, tail)
}

func unsplit(branches []branch) []entry {
	out := make([]entry, len(branches))
	for i, b := range branches {
		out[i] = b.entry
	}
	return out
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
