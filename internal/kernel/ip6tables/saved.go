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
		var packets uint64
		if strings.HasPrefix(line, "[") { // with -c
			count, rest, _ := strings.Cut(line[1:], ":")
			packets, _ = strconv.ParseUint(count, 10, 64)
			_, line, _ = strings.Cut(rest, "] ")
		}
		switch {
		case line == "" || strings.HasPrefix(line, "#") || line == "COMMIT":
		case strings.HasPrefix(line, "*"):
			t = &savedTable{policies: map[string]string{}, rules: map[string][]savedRule{}}
			out[line[1:]] = t
		case t == nil:
			return nil, fmt.Errorf("iptables-save says %q before any table", line)
		case strings.HasPrefix(line, ":"):
			fields := strings.Fields(line[1:])
			if len(fields) < 2 {
				return nil, fmt.Errorf("iptables-save says %q of a chain", line)
			}
			if fields[1] == "-" {
				t.chains = append(t.chains, fields[0])
			} else {
				t.policies[fields[0]] = fields[1]
			}
		case strings.HasPrefix(line, "-A "):
			chain, rule, _ := strings.Cut(line[3:], " ")
			t.rules[chain] = append(t.rules[chain], savedRule{rule, packets})
		default:
			return nil, fmt.Errorf("iptables-save says %q", line)
		}
	}
	return out, nil
}

// comment is a comment with what adds it.
var comment = regexp.MustCompile(`-m comment --comment ("(?:[^"\\]|\\.)*"|\S+) ?`)

// tagged reports whether a rule in another's chain is ours.
func tagged(rule string) bool {
	m := comment.FindStringSubmatch(rule)
	return m != nil && strings.Trim(m[1], `"`) == tag
}

// essence is a rule without its comments.
func essence(rule string) string { return strings.TrimSpace(comment.ReplaceAllString(rule, "")) }

// ours is what there is of ours, as text to compare.
func (s saved) ours() string {
	var b strings.Builder
	for _, name := range tableNames {
		t, ok := s[name]
		if !ok {
			continue
		}
		for _, base := range sortedKeys(t.policies) {
			for _, rule := range t.rules[base] {
				if tagged(rule.text) {
					fmt.Fprintf(&b, "%s %s %s\n", name, base, rule.text)
				}
			}
		}
		for _, ch := range slices.Sorted(slices.Values(t.chains)) {
			if !strings.HasPrefix(ch, prefix) {
				continue
			}
			fmt.Fprintf(&b, "%s %s\n", name, ch)
			for _, rule := range t.rules[ch] {
				fmt.Fprintf(&b, "%s %s %s\n", name, ch, rule.text)
			}
		}
	}
	return b.String()
}

// tables are ours as far as they can be known from here: chains whose rules are to be
// put there anew, and jumps.
func (s saved) tables() tables {
	out := tables{}
	for _, name := range tableNames {
		out[name] = &table{}
		t, ok := s[name]
		if !ok {
			continue
		}
		for _, ch := range t.chains {
			if strings.HasPrefix(ch, prefix) {
				out[name].chains = append(out[name].chains, &chain{name: ch, rules: []string{"unknown"}})
			}
		}
		for _, base := range sortedKeys(t.policies) {
			for _, rule := range t.rules[base] {
				if j := (jump{base, leadsTo(rule.text)}); tagged(rule.text) && j.rule() == rule.text {
					out[name].jumps = append(out[name].jumps, j)
				}
			}
		}
	}
	return out
}

// surplus are lines that remove what carries our tag and is not as we put it there,
// and jumps that are there twice.
func (s saved) surplus(name string) (lines []string) {
	t, ok := s[name]
	if !ok {
		return nil
	}
	for _, base := range sortedKeys(t.policies) {
		seen := map[string]bool{}
		for _, rule := range t.rules[base] {
			j := jump{base, leadsTo(rule.text)}
			if tagged(rule.text) && (j.rule() != rule.text || seen[rule.text] || !strings.HasPrefix(j.chain, prefix)) {
				lines = append(lines, fmt.Sprintf("-D %s %s\n", base, rule.text))
			}
			seen[rule.text] = true
		}
	}
	return lines
}

// holds reports whether there are as many rules in each of our chains as there should be.
func (s saved) holds(want tables) error {
	for name, t := range want {
		have, ok := s[name]
		if !ok && len(t.chains) > 0 {
			return fmt.Errorf("table %s is not there", name)
		}
		for _, ch := range t.chains {
			if n := len(have.rules[ch.name]); n != len(ch.rules) || !slices.Contains(have.chains, ch.name) {
				return fmt.Errorf("table %s, chain %s: %d rules are there, not %d", name, ch.name, n, len(ch.rules))
			}
		}
	}
	return nil
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
