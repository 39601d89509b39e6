package firewall

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Ruleset is one nftables table. [Ruleset.String] is its text as `nft -f` reads
// it; every rule, type and element is kept in that language.
type Ruleset struct {
	Family string // inet
	Table  string
	Sets   []Set
	Chains []Chain
}

// Set is a named set, or a map where Value is not empty.
type Set struct {
	Name     string
	Key      string // type of the elements' keys: "ipv6_addr . inet_proto . inet_service"
	Value    string // type of the values of a map
	Interval bool   // keys are prefixes, and do not overlap
	Elements []Element
}

// Element is an element of a set or map: `fd00::2 . tcp . 80`.
type Element struct{ Key, Value string }

func (e Element) String() string {
	if e.Value == "" {
		return e.Key
	}
	return e.Key + " : " + e.Value
}

// Chain is a chain and its rules. Hook is nil for one that only other chains lead to.
type Chain struct {
	Name  string
	Hook  *Hook
	Rules []string
}

// Hook is where a base chain meets packets. Its policy is always accept.
type Hook struct {
	Type     string // filter or nat
	Name     string // prerouting, forward, output or postrouting
	Priority int    // lower is earlier
}

// Change is what turns one content of a set into another.
type Change struct {
	Set    string
	Delete []Element
	Add    []Element
}

// Since lists the changes of elements that turn old into r, or says that
// elements alone cannot do that: chains, rules or sets differ.
func (r Ruleset) Since(old Ruleset) (changes []Change, ok bool) {
	if r.Family != old.Family || r.Table != old.Table || len(r.Sets) != len(old.Sets) || !reflect.DeepEqual(r.Chains, old.Chains) {
		return nil, false
	}
	for i, set := range r.Sets {
		before := old.Sets[i]
		if set.Name != before.Name || set.Key != before.Key || set.Value != before.Value || set.Interval != before.Interval {
			return nil, false
		}
		c := Change{Set: set.Name, Delete: without(before.Elements, set.Elements), Add: without(set.Elements, before.Elements)}
		if len(c.Delete)+len(c.Add) > 0 {
			changes = append(changes, c)
		}
	}
	return changes, true
}

// without is what of a is not in b; both are sorted.
func without(a, b []Element) []Element {
	var out []Element
	for _, e := range a {
		if _, found := slices.BinarySearchFunc(b, e, compareElements); !found {
			out = append(out, e)
		}
	}
	return out
}

func compareElements(a, b Element) int {
	return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Value, b.Value))
}

// String is the table in nft's language.
func (r Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", r.Family, r.Table)
	for _, set := range r.Sets {
		set.write(&b)
	}
	for _, chain := range r.Chains {
		chain.write(&b)
	}
	b.WriteString("}\n")
	return b.String()
}

func (s Set) write(b *strings.Builder) {
	kind, typ := "set", s.Key
	if s.Value != "" {
		kind, typ = "map", s.Key+" : "+s.Value
	}
	fmt.Fprintf(b, "\t%s %s {\n\t\ttype %s\n", kind, s.Name, typ)
	if s.Interval {
		b.WriteString("\t\tflags interval\n")
	}
	if len(s.Elements) > 0 {
		b.WriteString("\t\telements = {\n")
		for _, e := range s.Elements {
			fmt.Fprintf(b, "\t\t\t%s,\n", e)
		}
		b.WriteString("\t\t}\n")
	}
	b.WriteString("\t}\n")
}

func (c Chain) write(b *strings.Builder) {
	fmt.Fprintf(b, "\tchain %s {\n", c.Name)
	if c.Hook != nil {
		fmt.Fprintf(b, "\t\ttype %s hook %s priority %d; policy accept;\n", c.Hook.Type, c.Hook.Name, c.Hook.Priority)
	}
	for _, rule := range c.Rules {
		fmt.Fprintf(b, "\t\t%s\n", rule)
	}
	b.WriteString("\t}\n")
}
