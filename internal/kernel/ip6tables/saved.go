package ip6tables

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// saved is what iptables-save has to say, by the table's name.
type saved map[string]*savedTable

func newSavedTable() *savedTable {
	return &savedTable{policies: map[string]string{}, rules: map[string][]savedRule{}}
}

type savedTable struct {
	policies map[string]string // of the chains that every iptables has
	chains   []string          // the others'
	rules    map[string][]savedRule
}

// savedRule is a rule without the name of its chain, and how many packets it has met.
type savedRule struct {
	text    string
	packets uint64
}

// readSaved reads it.
func readSaved(text string) (saved, error) {
	out := saved{}
	var t *savedTable
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			t = newSavedTable()
			out[line[1:]] = t
		case line == "" || strings.HasPrefix(line, "#") || line == "COMMIT":
		case t == nil:
			return nil, fmt.Errorf("iptables-save says %q before any table", line)
		default:
			if err := t.read(line); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// readListed reads what iptables -S says of a table, or of one of its chains.
func readListed(text string) (*savedTable, error) {
	t := newSavedTable()
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\n"); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := t.read(line); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// read takes in a line, of iptables-save or of iptables -S.
func (t *savedTable) read(line string) error {
	var packets uint64
	if strings.HasPrefix(line, "[") { // iptables-save -c
		count, rest, _ := strings.Cut(line[1:], ":")
		packets, _ = strconv.ParseUint(count, 10, 64)
		_, line, _ = strings.Cut(rest, "] ")
	}
	fields := strings.Fields(line)
	switch {
	case len(fields) >= 2 && strings.HasPrefix(line, ":"): // :CHAIN POLICY [0:0]
		t.add(fields[0][1:], fields[1])
	case len(fields) >= 3 && fields[0] == "-P":
		t.add(fields[1], fields[2])
	case len(fields) == 2 && fields[0] == "-N":
		t.add(fields[1], "-")
	case len(fields) >= 2 && fields[0] == "-A":
		_, rule, _ := strings.Cut(line[3:], " ")
		if m := counted.FindStringSubmatchIndex(rule); m != nil { // iptables -S -v
			packets, _ = strconv.ParseUint(rule[m[2]:m[3]], 10, 64)
			rule = strings.TrimSpace(rule[:m[0]] + rule[m[1]:])
		}
		t.rules[fields[1]] = append(t.rules[fields[1]], savedRule{rule, packets})
	default:
		return fmt.Errorf("iptables says %q", line)
	}
	return nil
}

func (t *savedTable) add(chain, policy string) {
	if policy == "-" {
		t.chains = append(t.chains, chain)
	} else {
		t.policies[chain] = policy
	}
}

// counted is how iptables -S -v says what a rule has met.
var counted = regexp.MustCompile(`(?:^| )-c (\d+) \d+`)

// comment is a comment with what adds it.
var comment = regexp.MustCompile(`-m comment --comment ("(?:[^"\\]|\\.)*"|\S+) ?`)

// tagged reports whether a rule in another's chain is ours.
func tagged(rule string) bool {
	m := comment.FindStringSubmatch(rule)
	return m != nil && strings.Trim(m[1], `"`) == tag
}

// essence is a rule without its comments.
func essence(rule string) string { return strings.TrimSpace(comment.ReplaceAllString(rule, "")) }

// listing is what there is in our chains, as text to compare, by the chain's name.
func (t *savedTable) listing() map[string]string {
	out := map[string]string{}
	for _, ch := range t.chains {
		if strings.HasPrefix(ch, prefix) {
			var b strings.Builder
			for _, rule := range t.rules[ch] {
				b.WriteString(rule.text)
				b.WriteByte('\n')
			}
			out[ch] = b.String()
		}
	}
	return out
}

// jumps are those of the wanted ones that are there and in their places, and the lines
// that remove whatever else in others' chains carries our tag.
//
// Ours come first in a chain: whatever another's rule accepts before them they never
// see. Rules that let a packet go on, or drop it, may come before.
func (t *savedTable) jumps(want []jump) (right []jump, surplus []string) {
	for _, base := range sortedKeys(t.policies) {
		var wanted, rules []string
		for _, j := range want {
			if j.base == base {
				wanted = append(wanted, j.rule())
			}
		}
		for _, r := range t.rules[base] {
			if tagged(r.text) || !harmless[leadsTo(essence(r.text))] {
				rules = append(rules, r.text)
			}
		}
		if n := len(wanted); len(rules) >= n && slices.Equal(rules[:n], wanted) && !slices.ContainsFunc(rules[n:], tagged) {
			for _, j := range want {
				if j.base == base {
					right = append(right, j)
				}
			}
			continue
		}
		for _, rule := range rules {
			if tagged(rule) {
				surplus = append(surplus, fmt.Sprintf("-D %s %s\n", base, rule))
			}
		}
	}
	return right, surplus
}

// harmless are targets of rules that let no packet pass by those that come after them.
var harmless = map[string]bool{"": true, "DROP": true, "LOG": true, "NFLOG": true, "MARK": true, "CONNMARK": true, "CT": true, "TRACE": true, "TCPMSS": true}

// holds says what is not as it should be after a change from was to want; nil: all is.
// Of the chains that were not changed it is known how they were listed, of the others
// how many rules they have, and what leads where.
func (t *savedTable) holds(want *table, was held) error {
	listing, before := t.listing(), was.sent.index()
	for _, ch := range want.chains {
		text, ok := listing[ch.name]
		if !ok {
			return fmt.Errorf("chain %s is not there", ch.name)
		}
		if old := before[ch.name]; old != nil && slices.Equal(old.rules, ch.rules) {
			if text != was.listed[ch.name] {
				return fmt.Errorf("chain %s has been changed", ch.name)
			}
			continue
		}
		rules := t.rules[ch.name]
		if len(rules) != len(ch.rules) {
			return fmt.Errorf("chain %s has %d rules, not %d", ch.name, len(rules), len(ch.rules))
		}
		// What counts is changed rule by rule, in any order but for the last.
		for i := range rules {
			if have, to := leadsTo(rules[i].text), leadsTo(ch.rules[i]); have != to {
				return fmt.Errorf("chain %s, rule %d: it leads to %q, not to %q", ch.name, i+1, have, to)
			}
		}
	}
	wanted := want.index()
	for _, name := range sortedKeys(listing) {
		if wanted[name] == nil {
			return fmt.Errorf("chain %s is there, and should not be", name)
		}
	}
	if right, surplus := t.jumps(want.jumps); len(surplus) > 0 || len(right) < len(want.jumps) {
		return fmt.Errorf("the rules that lead to our chains are not where they should be")
	}
	return nil
}

// asWas says what is not as it was; nil: all is.
func (t *savedTable) asWas(was held) error {
	listing := t.listing()
	for _, name := range sortedKeys(listing) {
		if text, known := was.listed[name]; !known || text != listing[name] {
			return fmt.Errorf("chain %s has been changed", name)
		}
	}
	for _, name := range sortedKeys(was.listed) {
		if _, is := listing[name]; !is {
			return fmt.Errorf("chain %s is gone", name)
		}
	}
	if right, surplus := t.jumps(was.sent.jumps); len(surplus) > 0 || len(right) < len(was.sent.jumps) {
		return fmt.Errorf("the rules that lead to our chains are not where they should be")
	}
	return nil
}

// now is the table with those of our chains that are as they were, and the others as
// ones that are to be put there anew.
func (t *savedTable) now(was held, right []jump) *table {
	out, before := &table{jumps: right}, was.sent.index()
	for name, text := range t.listing() {
		ch := &chain{name: name, rules: []string{"unknown"}}
		if old := before[name]; old != nil && was.listed[name] == text {
			ch = old
		}
		out.chains = append(out.chains, ch)
	}
	slices.SortFunc(out.chains, func(a, b *chain) int { return strings.Compare(a.name, b.name) })
	return out
}

// others reports whether the tables hold anything of anybody else's.
func (s saved) others() bool {
	for name, t := range s {
		for _, policy := range t.policies {
			if policy != "ACCEPT" {
				return true
			}
		}
		for _, ch := range t.chains {
			if !strings.HasPrefix(ch, prefix) {
				return true
			}
		}
		for base := range t.policies {
			if slices.ContainsFunc(s[name].rules[base], func(r savedRule) bool { return !tagged(r.text) }) {
				return true
			}
		}
	}
	return false
}

// docker reports whether Docker's rules are there.
func (s saved) docker() bool {
	for _, t := range s {
		if slices.ContainsFunc(t.chains, func(ch string) bool { return strings.HasPrefix(ch, "DOCKER") }) {
			return true
		}
	}
	return false
}
