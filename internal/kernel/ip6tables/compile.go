package ip6tables

import (
	"fmt"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/firewall"
)

// prefix is how the names of our chains begin.
const prefix = "v6net-"

// maxName is XT_EXTENSION_MAXNAMELEN less the final zero
// (include/uapi/linux/netfilter/x_tables.h).
const maxName = 28

// missed is the bit of the packet mark that says "a test has failed" for the time of
// one rule. It is firewall's outsideMark, which only translated prefixes have a use
// for, and those cannot be had here. Packets of others are never marked by it.
const missed = 0x800

var (
	miss   = fmt.Sprintf("-j MARK --set-xmark %#x/%#x", missed, missed)
	forget = fmt.Sprintf("-j MARK --set-xmark 0x0/%#x", missed)
	met    = fmt.Sprintf("-m mark --mark 0x0/%#x", missed)
)

// tables are what one family's iptables is to hold of ours, by the table's name.
type tables map[string]*table

// tableNames are the tables that we have rules in, in the order in which they are
// changed: the one that lets in and keeps out comes first.
var tableNames = []string{"mangle", "raw", "nat"}

type table struct {
	jumps  []jump
	chains []*chain // in a stable order
}

// jump leads from a chain that every iptables has to one of ours.
type jump struct{ base, chain string }

type chain struct {
	name  string
	rules []string
	// counting: the rules but the last are there to count by, one for each element
	// of the set of that name.
	counting string
}

// compile makes a family's tables of a ruleset. bridges are those of others, whose
// own rules judge what goes there.
func compile(r firewall.Ruleset, f family, bridges []string) (tables, error) {
	out := tables{}
	for _, name := range tableNames {
		c := compiler{family: f, ruleset: r, bridges: bridges, chains: map[string]*chain{}, verdicts: map[string]string{}, done: map[string]bool{}, marks: map[string]bool{}}
		for _, from := range c.mains() {
			if from.Hook == nil {
				continue
			}
			in, base, err := place(*from.Hook)
			if err != nil {
				return nil, err
			}
			if in != name {
				continue
			}
			if err := c.main(from.Name, false); err != nil {
				return nil, err
			}
			if !c.idle(prefix + from.Name) {
				c.out.jumps = append(c.out.jumps, jump{base, prefix + from.Name})
			}
		}
		if err := c.prune(); err != nil {
			return nil, fmt.Errorf("table %s: %w", name, err)
		}
		out[name] = &c.out
	}
	return out, nil
}

// place is the table and chain where packets meet a base chain's rules.
func place(h firewall.Hook) (table, base string, err error) {
	base = strings.ToUpper(h.Name)
	switch {
	case h.Type == "nat":
		return "nat", base, nil
	case h.Name == "prerouting":
		return "raw", base, nil
	case h.Name == "input", h.Name == "forward", h.Name == "output", h.Name == "postrouting":
		return "mangle", base, nil
	}
	return "", "", fmt.Errorf("iptables has no place for hook %s", h.Name)
}

// compiler makes one table.
type compiler struct {
	family   family
	ruleset  firewall.Ruleset
	bridges  []string
	out      table
	chains   map[string]*chain // out's, by name
	verdicts map[string]string // of counting chains
	done     map[string]bool   // main chains; true: only our networks' packets come there
	marks    map[string]bool   // main chains that leave a mark for the time of a rule
}

// mains are the chains that are compiled, all of whose names differ.
func (c *compiler) mains() []firewall.Chain {
	var out []firewall.Chain
	for _, t := range c.ruleset.Tables {
		if t.Family != firewall.FamilyBridge { // for which there is Routed
			out = append(out, t.Chains...)
		}
	}
	return append(out, c.ruleset.Routed.Chains...)
}

// chain is one of the table's, made if it is not there.
func (c *compiler) chain(name string) *chain {
	if ch := c.chains[name]; ch != nil {
		return ch
	}
	ch := &chain{name: name}
	c.chains[name] = ch
	c.out.chains = append(c.out.chains, ch)
	return ch
}

// main compiles a chain of the ruleset. ours: no packet of others comes there.
func (c *compiler) main(name string, ours bool) error {
	if was, done := c.done[name]; done {
		if was && !ours && c.marks[name] {
			return fmt.Errorf("chain %s: others' packets come there, too", name)
		}
		return nil
	}
	c.done[name] = ours
	all := c.mains()
	i := slices.IndexFunc(all, func(from firewall.Chain) bool { return from.Name == name })
	if i < 0 {
		return fmt.Errorf("no chain %s", name)
	}
	into := c.chain(prefix + name)
	for n, text := range all[i].Rules {
		r, err := parse(text)
		if err == nil {
			s := step{compiler: c, into: into, from: name, name: fmt.Sprintf("%s%s-%d", prefix, name, n), rule: r, ours: ours}
			into, ours, err = s.compile()
		}
		if err != nil {
			return fmt.Errorf("chain %s: rule %q: %w", name, text, err)
		}
		if into == nil {
			return nil // nothing gets further
		}
	}
	return nil
}

// counting is a chain that counts by a set, and then does what the verdict says.
func (c *compiler) counting(set, key, verdict string) (string, error) {
	name := prefix + set
	if was, done := c.verdicts[set]; done {
		if was != verdict {
			return "", fmt.Errorf("set %s counts for two verdicts", set)
		}
		return name, nil
	}
	c.verdicts[set] = verdict
	ch := c.chain(name)
	ch.counting = set
	for _, e := range c.ruleset.Set(set).Elements {
		if sayable([]string{key}, []string{e.Key}) {
			ch.rules = append(ch.rules, flags[key]+" "+unquote(e.Key))
		}
	}
	ch.rules = append(ch.rules, verdict)
	return name, nil
}

// idle reports whether nothing becomes of a packet in a chain.
func (c *compiler) idle(name string) bool {
	return !slices.ContainsFunc(c.chain(name).rules, func(rule string) bool {
		target := leadsTo(rule)
		switch {
		case target == "RETURN", strings.HasSuffix(rule, forget), strings.HasSuffix(rule, miss):
			return false
		default:
			return !strings.HasPrefix(target, prefix) || !c.idle(target)
		}
	})
}

// prune removes what no jump leads to.
func (c *compiler) prune() error {
	reached := map[string]bool{}
	var reach func(string)
	reach = func(name string) {
		if !strings.HasPrefix(name, prefix) || reached[name] {
			return
		}
		reached[name] = true
		for _, rule := range c.chain(name).rules {
			reach(leadsTo(rule))
		}
	}
	for _, j := range c.out.jumps {
		reach(j.chain)
	}
	c.out.chains = slices.DeleteFunc(c.out.chains, func(ch *chain) bool { return !reached[ch.name] })
	for _, ch := range c.out.chains {
		if last := len(ch.rules) - 1; last > 0 && ch.rules[last] == "-j RETURN" { // as the end of a chain does
			ch.rules = ch.rules[:last]
		}
		if len(ch.name) > maxName {
			return fmt.Errorf("chain %s: its name is too long", ch.name)
		}
	}
	return nil
}

// leadsTo is the target or chain of a rule.
func leadsTo(rule string) string {
	fields := strings.Fields(rule)
	for i, f := range fields[:max(0, len(fields)-1)] {
		if f == "-j" || f == "-g" {
			return fields[i+1]
		}
	}
	return ""
}
