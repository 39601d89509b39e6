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
	Name     string // prerouting, input, forward, output or postrouting
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
		changes = appendChange(changes, set.Name, before.Elements, set.Elements)
	}
	return changes, true
}

// appendChange appends what turns before into after, both sorted, if that is anything.
func appendChange(changes []Change, set string, before, after []Element) []Change {
	c := Change{Set: set, Delete: without(before, after), Add: without(after, before)}
	if len(c.Delete)+len(c.Add) == 0 {
		return changes
	}
	return append(changes, c)
}

// Pending are those of the changes that r does not have yet.
func (r Ruleset) Pending(changes []Change) []Change {
	var pending []Change
	for _, c := range changes {
		set := r.set(c.Set)
		absent := func(e Element) bool { return !set.has(e) }
		c.Delete = slices.DeleteFunc(slices.Clone(c.Delete), absent)
		c.Add = slices.DeleteFunc(slices.Clone(c.Add), set.has)
		if len(c.Delete)+len(c.Add) > 0 {
			pending = append(pending, c)
		}
	}
	return pending
}

// Change makes changes in place.
func (r Ruleset) Change(changes []Change) {
	for _, c := range changes {
		set := r.set(c.Set)
		for _, e := range c.Delete {
			if i, found := set.find(e); found {
				set.Elements = slices.Delete(set.Elements, i, i+1)
			}
		}
		for _, e := range c.Add {
			if i, found := set.find(e); !found {
				set.Elements = slices.Insert(set.Elements, i, e)
			}
		}
	}
}

// Clone is a copy whose elements can be changed.
func (r Ruleset) Clone() Ruleset {
	r.Sets = slices.Clone(r.Sets)
	for i := range r.Sets {
		r.Sets[i].Elements = slices.Clone(r.Sets[i].Elements)
	}
	return r
}

// set is the one of that name, which must exist: the names are the package's own.
func (r Ruleset) set(name string) *Set {
	return &r.Sets[slices.IndexFunc(r.Sets, func(s Set) bool { return s.Name == name })]
}

func (s *Set) find(e Element) (int, bool) {
	return slices.BinarySearchFunc(s.Elements, e, compareElements)
}

func (s *Set) has(e Element) bool {
	_, found := s.find(e)
	return found
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
