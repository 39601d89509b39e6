package ip6tables

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/firewall"
)

// step compiles one rule. What it comes to depends on what it asks:
//
//   - One set, or a few small ones, and whatever tells by a limit of each element's: a
//     rule for each element.
//   - "Whatever is not of ours returns", and "whatever is of our networks goes there": a
//     rule for each element goes on to a chain to which only our networks' packets come.
//   - One set, or several short ones, with a target that ends a packet's way: a jump to
//     chains that lead from set to set, and return what does not pass. Elsewhere than where
//     only our networks' packets come, long ones, too.
//   - There, with several long sets or another target: a jump to a chain for each set, which
//     leaves the [missed] mark if the packet does not pass, and a rule for packets without
//     it. So the rules add up, and their numbers are not multiplied.
type step struct {
	*compiler
	into *chain
	from string // the chain of the ruleset that has it
	name string // of chains that belong to the rule
	rule rule
	ours bool

	simple  []string // matches that hold for the whole rule
	is, not []lookup
	count   *firewall.Set // to count by, with
	key     string
}

// lookup asks whether the keys have one of the values.
type lookup struct {
	name    string // of the set; empty: of several
	keys    []string
	entries []entry
}

// few bounds the rules that small sets are multiplied to. To the kernel, which follows
// each way through the chains when it looks for loops, they are multiplied indeed.
const few = 8

// compile returns the chain that the next rule belongs in, nil if no packet gets
// further, and whether only our packets come there.
func (s *step) compile() (into *chain, ours bool, err error) {
	switch {
	case s.rule.rewrite, s.rule.verdict == "" && s.rule.mark != 0:
		return s.into, s.ours, nil // of translated prefixes, which there are none of
	case s.rule.verdict == "":
		return nil, false, fmt.Errorf("decides nothing")
	}
	if s.rule.of != "" && family(s.rule.of) != s.family {
		return s.into, s.ours, nil
	}
	for _, t := range s.rule.tests {
		possible, err := s.take(t)
		if !possible || err != nil {
			return s.into, s.ours, err
		}
	}
	if s.rule.pairs.set != "" {
		l, err := s.pairs()
		if len(l.entries) == 0 || err != nil {
			return s.into, s.ours, err
		}
		s.is = append(s.is, l)
	}
	s.merge()
	for _, l := range s.is {
		if len(l.entries) == 0 {
			return s.into, s.ours, nil
		}
	}
	if s.rule.verdict == "log" {
		return s.into, s.ours, s.each(s.is, nil, s.rule.log)
	}
	target, err := s.target()
	if err != nil {
		return nil, false, err
	}
	links := len(s.not) == 0 && len(s.is) == 1 && s.is[0].ofLinks()
	nested := s.ends() && !links
	switch {
	case s.rule.mark != 0:
		s.emit(s.simple, fmt.Sprintf("-j MARK --set-xmark %#x/%#x", s.rule.mark, s.rule.mark))
		s.emit(s.simple, target)
		if len(s.is)+len(s.not) > 0 {
			return nil, false, fmt.Errorf("a mark for some elements of a set is not known here")
		}
	case len(s.is)+len(s.not) == 0:
		s.emit(s.simple, target)
		if len(s.simple) == 0 {
			return nil, false, nil
		}
	case s.rule.verdict == "return" && len(s.is) == 0 && len(s.simple) == 0:
		return s.guard()
	case len(s.not) == 0 && s.product() <= few:
		return s.into, s.ours, s.each(s.is, nil, target)
	case s.ours && s.rule.pairs.set == "" && !(nested && s.short()):
		return s.into, s.ours, s.marked(target)
	case nested:
		return s.into, s.ours, s.nested(target)
	case len(s.not) == 0:
		return s.into, s.ours, s.each(s.is, nil, target)
	default:
		return nil, false, fmt.Errorf("goes to a chain after several sets, where packets of others come")
	}
	return s.into, s.ours, nil
}

// take adds a test, or reports that no packet can pass it.
func (s *step) take(t test) (possible bool, err error) {
	for _, key := range t.keys {
		if !s.family.has(key) {
			return false, nil
		}
	}
	switch {
	case t.keys[0] == "meta nfproto":
		return (t.value == "ipv4") == (s.family == ip4) != t.not, nil
	case t.keys[0] == "meta iifkind": // which goes where what is of no network is told from others
		s.is = append(s.is, elements(s.ruleset.Set("networks"), []string{"iifname"}))
		return true, nil
	case t.keys[0] == "meta oifkind":
		l := lookup{keys: []string{"oifname"}}
		for _, bridge := range s.bridges {
			l.entries = append(l.entries, entry{parts: []string{bridge}})
		}
		s.is = append(s.is, l)
		return true, nil
	case t.set == "":
		match, err := single(t)
		s.simple = append(s.simple, match)
		return true, err
	}
	set := s.ruleset.Set(t.set)
	if set == nil {
		return false, fmt.Errorf("no set %s", t.set)
	}
	if set.Counter {
		s.count, s.key = set, t.keys[0]
		if len(set.Elements) == len(s.ruleset.Set("networks").Elements) { // of every one: nothing to be asked
			return true, nil
		}
	}
	l := elements(set, t.keys)
	if t.not {
		if len(l.entries) > 0 {
			s.not = append(s.not, l)
		}
		return true, nil
	}
	s.is = append(s.is, l)
	return true, nil
}

// elements looks keys up in a set. Links whose names iptables cannot say are left out: it
// would take them for others. Who asks for rules is told ([Firewall.CanName]).
func elements(set *firewall.Set, keys []string) lookup {
	l := lookup{name: set.Name, keys: keys}
	for _, e := range set.Elements {
		if parts := strings.Split(e.Key, " . "); sayable(keys, parts) {
			l.entries = append(l.entries, entry{parts: parts})
		}
	}
	return l
}

// pairs are the elements of the rule's map, each with what is done.
func (s *step) pairs() (lookup, error) {
	set := s.ruleset.Set(s.rule.pairs.set)
	if set == nil {
		return lookup{}, fmt.Errorf("no map %s", s.rule.pairs.set)
	}
	option := map[string]string{"dnat": "-j DNAT --to-destination ", "snat": "-j SNAT --to-source "}[s.rule.verdict]
	l := lookup{keys: s.rule.pairs.keys}
	for _, e := range set.Elements {
		to, port, translated := strings.Cut(e.Value, " . ")
		if translated {
			to = net.JoinHostPort(to, port)
		}
		l.entries = append(l.entries, entry{strings.Split(e.Key, " . "), option + to})
	}
	return l, nil
}

// merge makes one lookup of several that ask the same keys, and a match of one that
// has a single element.
func (s *step) merge() {
	var merged []lookup
	for _, l := range s.is {
		i := slices.IndexFunc(merged, func(m lookup) bool { return slices.Equal(m.keys, l.keys) })
		if i < 0 {
			merged = append(merged, l)
			continue
		}
		merged[i].name = ""
		merged[i].entries = slices.DeleteFunc(slices.Clone(merged[i].entries), func(e entry) bool {
			return !slices.ContainsFunc(l.entries, func(o entry) bool { return slices.Equal(o.parts, e.parts) })
		})
	}
	s.is = nil
	for _, l := range merged {
		if len(l.entries) == 1 && l.entries[0].target == "" {
			if match, err := full(l.keys, l.entries[0]); err == nil {
				s.simple = append(s.simple, match)
				continue
			}
		}
		s.is = append(s.is, l)
	}
}

// ends reports whether the rule ends a packet's way.
func (s *step) ends() bool {
	if s.rule.verdict == "goto" {
		return slices.ContainsFunc(s.mains(), func(c firewall.Chain) bool {
			return c.Name == s.rule.to && strings.HasSuffix(c.Rules[len(c.Rules)-1], " drop")
		})
	}
	return slices.Contains([]string{"drop", "masquerade", "dnat", "snat"}, s.rule.verdict)
}

// target is what becomes of a packet that has passed.
func (s *step) target() (string, error) {
	switch s.rule.verdict {
	case "drop":
		if s.count == nil {
			return "-j DROP", nil
		}
		name, err := s.counting(s.count.Name, s.key, "-j DROP")
		return "-g " + name, err
	case "accept", "return":
		return "-j RETURN", nil
	case "masquerade":
		return "-j MASQUERADE", nil
	case "goto":
		ours := s.ours || slices.ContainsFunc(s.rule.tests, func(t test) bool { return t.set == "networks" && !t.not })
		if err := s.main(s.rule.to, ours); err != nil {
			return "", err
		}
		if s.count == nil {
			return "-g " + prefix + s.rule.to, nil
		}
		name, err := s.counting(s.count.Name, s.key, "-g "+prefix+s.rule.to)
		return "-g " + name, err
	}
	return "", nil // of a map: each element has its own
}

func (s *step) emit(matches []string, target string) {
	s.into.rules = append(s.into.rules, strings.TrimSpace(strings.Join(append(slices.Clone(matches), target), " ")))
}

func (s *step) product() int {
	n := 1
	for _, l := range s.is {
		n *= len(l.entries)
	}
	return n
}

// short reports whether the ways through the sets, one after the other, are few.
func (s *step) short() bool {
	return len(s.is) == 1 && len(s.not) == 0 || !slices.ContainsFunc(slices.Concat(s.is, s.not), func(l lookup) bool { return len(l.entries) > leafEntries })
}

// ofLinks reports whether the names of links are all that is asked.
func (l lookup) ofLinks() bool {
	return !slices.ContainsFunc(l.keys, func(k string) bool { return k != "iifname" && k != "oifname" })
}

// each adds a rule for each combination of elements.
func (s *step) each(lookups []lookup, matches []string, target string) error {
	if len(lookups) == 0 {
		s.emit(append(slices.Clone(s.simple), matches...), target)
		return nil
	}
	for _, e := range lookups[0].entries {
		match, err := full(lookups[0].keys, e)
		if err != nil {
			return err
		}
		to := target
		if e.target != "" {
			to = e.target
		}
		if err := s.each(lookups[1:], append(slices.Clone(matches), match), to); err != nil {
			return err
		}
	}
	return nil
}

// guard goes on with what has any of the elements, and returns the rest.
func (s *step) guard() (*chain, bool, error) {
	rest := s.chain(s.name)
	s.is, s.not = s.not, nil
	for _, l := range s.is {
		if err := s.each([]lookup{l}, nil, "-g "+rest.name); err != nil {
			return nil, false, err
		}
	}
	return rest, true, nil
}

// marked asks each set in a chain of its own.
func (s *step) marked(target string) error {
	s.marks[s.from] = true
	s.sparing()
	if rules := s.into.rules; len(rules) == 0 || rules[len(rules)-1] != forget {
		s.emit(nil, forget) // what others may have marked
	}
	matches := s.simple
	for i, l := range slices.Concat(s.is, s.not) {
		name, err := s.ask(l, i >= len(s.is), fmt.Sprintf("%s%c", s.name, 'a'+i))
		if err != nil {
			return err
		}
		s.emit(matches, "-j "+name)
		matches = append(slices.Clone(s.simple), met)
	}
	s.emit(matches, target)
	s.emit(nil, forget)
	return nil
}

// sparing has a set of one protocol's asked for its packets alone.
func (s *step) sparing() {
	for _, l := range s.is {
		if protocol := protocols[l.keys[0]]; protocol != "" {
			s.simple = append(s.simple, "-p "+protocol)
		}
	}
}

// ask is the chain that marks what does not pass a lookup. All rules share the one
// of a set.
func (s *step) ask(l lookup, not bool, own string) (string, error) {
	name := own
	if l.name != "" {
		name = prefix + l.name
		for _, key := range l.keys {
			name += flags[key]
		}
		if not {
			name += "!"
		}
	}
	if len(s.chain(name).rules) > 0 {
		return name, nil
	}
	if not {
		return name, s.tree(name, l.keys, l.entries, func(entry) string { return miss }, "")
	}
	return name, s.tree(name, l.keys, l.entries, func(entry) string { return "-j RETURN" }, miss)
}

// nested leads from set to set; whoever does not pass comes back.
func (s *step) nested(target string) error {
	s.sparing()
	s.emit(s.simple, "-j "+s.name)
	name := s.name
	for _, l := range s.not {
		if err := s.leaves(s.chain(name), l.keys, l.entries, func(entry) string { return "-j RETURN" }, ""); err != nil {
			return err
		}
	}
	for i, l := range s.is {
		below := fmt.Sprintf("%s%c", s.name, 'a'+i)
		leaf := func(e entry) string {
			switch {
			case i < len(s.is)-1:
				return "-g " + below
			case e.target != "":
				return e.target
			default:
				return target
			}
		}
		var err error
		if i == 0 && len(s.not) > 0 || len(l.entries) <= leafEntries || i < len(s.is)-1 {
			err = s.leaves(s.chain(name), l.keys, l.entries, leaf, "")
		} else {
			err = s.tree(name, l.keys, l.entries, leaf, "")
		}
		if err != nil {
			return err
		}
		name = below
	}
	if len(s.is) == 0 {
		ch := s.chain(name)
		ch.rules = append(ch.rules, target)
	}
	return nil
}
