package ip6tables

import (
	"fmt"
	"slices"
	"strings"
)

// tag is the comment of our rules in others' chains.
const tag = "v6net"

// rule is a jump as iptables-save writes it, without the name of its chain.
func (j jump) rule() string { return "-m comment --comment " + tag + " -j " + j.chain }

// String is the tables as iptables-restore reads them, jumps included.
func (ts tables) String() string {
	var b strings.Builder
	for _, name := range tableNames {
		if t := ts[name]; len(t.chains) > 0 {
			fmt.Fprintf(&b, "*%s\n%sCOMMIT\n", name, strings.Join(t.since(&table{}), ""))
		}
	}
	return b.String()
}

// since are the lines that turn a table with old in it into one with t.
func (t *table) since(old *table) []string {
	var declared, changed, emptied, removed []string
	before, after := old.index(), t.index()
	for _, ch := range t.chains {
		was := before[ch.name]
		switch {
		case was != nil && slices.Equal(was.rules, ch.rules):
		case was != nil && was.counting != "" && was.counting == ch.counting && len(was.rules) > 0 && len(ch.rules) > 0 &&
			was.rules[len(was.rules)-1] == ch.rules[len(ch.rules)-1]:
			changed = append(changed, ch.recount(was)...)
		default: // to declare a chain empties it
			declared = append(declared, fmt.Sprintf(":%s - [0:0]\n", ch.name))
			for _, rule := range ch.rules {
				changed = append(changed, fmt.Sprintf("-A %s %s\n", ch.name, rule))
			}
		}
	}
	for _, j := range old.jumps {
		if !slices.Contains(t.jumps, j) {
			emptied = append(emptied, fmt.Sprintf("-D %s %s\n", j.base, j.rule()))
		}
	}
	for _, j := range slices.Backward(t.jumps) {
		if !slices.Contains(old.jumps, j) {
			changed = append(changed, fmt.Sprintf("-I %s 1 %s\n", j.base, j.rule()))
		}
	}
	for _, was := range old.chains {
		if after[was.name] == nil {
			emptied = append(emptied, fmt.Sprintf("-F %s\n", was.name))
			removed = append(removed, fmt.Sprintf("-X %s\n", was.name))
		}
	}
	return slices.Concat(declared, changed, emptied, removed)
}

// recount changes the elements that a chain counts by. What the others have counted
// stays.
func (ch *chain) recount(was *chain) []string {
	var lines []string
	for _, rule := range was.rules {
		if !slices.Contains(ch.rules, rule) {
			lines = append(lines, fmt.Sprintf("-D %s %s\n", ch.name, rule))
		}
	}
	for _, rule := range ch.rules {
		if !slices.Contains(was.rules, rule) {
			lines = append(lines, fmt.Sprintf("-I %s 1 %s\n", ch.name, rule))
		}
	}
	return lines
}

// index is the table's chains by their names; of no table there are none.
func (t *table) index() map[string]*chain {
	if t == nil {
		return nil
	}
	out := make(map[string]*chain, len(t.chains))
	for _, ch := range t.chains {
		out[ch.name] = ch
	}
	return out
}
