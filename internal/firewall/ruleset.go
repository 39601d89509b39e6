package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Ruleset is what we have in nftables: tables of one name, each of another
// family. [Ruleset.String] is its text as `nft -f` reads it; every rule, type and
// element is kept in that language.
//
// Routed is for a backend that has no table of bridges, and stands in for it there.
// To nftables it is nothing.
type Ruleset struct {
	Tables []Table
	Routed Table
}

// all are the tables, the one for other backends included.
func (r Ruleset) all() []Table { return append(slices.Clone(r.Tables), r.Routed) }

// Table is one nftables table. The names of sets are unique over all tables.
type Table struct {
	Family string // inet, ip or bridge
	Name   string
	Sets   []Set
	Chains []Chain
}

// Set is a named set, or a map where Value is not empty.
type Set struct {
	Name     string
	Key      string // type of the elements' keys: "ipv6_addr . inet_proto . inet_service"
	Value    string // type of the values of a map
	Interval bool   // keys are prefixes, and do not overlap
	Counter  bool   // each element counts the packets that were looked up and found
	Dynamic  bool   // packets add the elements, and those that none has added again go
	// Expression is what the keys are compared with, where older nft have no name
	// for it and hence no type.
	Expression string
	Elements   []Element
}

// Bounds of dynamic sets: how many elements there may be, and for how long one stays
// that no packet has added again.
const (
	DynamicSize    = 65535
	DynamicTimeout = time.Minute
)

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
	if len(r.Tables) != len(old.Tables) {
		return nil, false
	}
	olds := old.all()
	for i, t := range r.all() {
		before := olds[i]
		if t.Family != before.Family || t.Name != before.Name || len(t.Sets) != len(before.Sets) || !reflect.DeepEqual(t.Chains, before.Chains) {
			return nil, false
		}
		for j, set := range t.Sets {
			was := before.Sets[j]
			if set.Name != was.Name || set.Key != was.Key || set.Value != was.Value || set.Interval != was.Interval || set.Counter != was.Counter || set.Dynamic != was.Dynamic {
				return nil, false
			}
			changes = appendChange(changes, set.Name, was.Elements, set.Elements)
		}
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
		set := r.Set(c.Set)
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
		set := r.Set(c.Set)
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
	r.Tables = slices.Clone(r.Tables)
	for i := range r.Tables {
		r.Tables[i].cloneSets()
	}
	r.Routed.cloneSets()
	return r
}

func (t *Table) cloneSets() {
	t.Sets = slices.Clone(t.Sets)
	for i := range t.Sets {
		t.Sets[i].Elements = slices.Clone(t.Sets[i].Elements)
	}
}

// Set is the one of that name; nil: there is none.
func (r Ruleset) Set(name string) *Set {
	for i := range r.Tables {
		if s := r.Tables[i].set(name); s != nil {
			return s
		}
	}
	return r.Routed.set(name)
}

func (t *Table) set(name string) *Set {
	if i := slices.IndexFunc(t.Sets, func(s Set) bool { return s.Name == name }); i >= 0 {
		return &t.Sets[i]
	}
	return nil
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

// String is the tables in nft's language.
func (r Ruleset) String() string {
	var b strings.Builder
	for _, t := range r.Tables {
		t.write(&b)
	}
	return b.String()
}

func (t Table) write(b *strings.Builder) {
	fmt.Fprintf(b, "table %s %s {\n", t.Family, t.Name)
	for _, set := range t.Sets {
		set.write(b)
	}
	for _, chain := range t.Chains {
		chain.write(b)
	}
	b.WriteString("}\n")
}

func (s Set) write(b *strings.Builder) {
	kind, of := "set", "type "+s.Key
	if s.Value != "" {
		kind, of = "map", of+" : "+s.Value
	}
	if s.Expression != "" {
		of = "typeof " + s.Expression
	}
	fmt.Fprintf(b, "\t%s %s {\n\t\t%s\n", kind, s.Name, of)
	if s.Interval {
		b.WriteString("\t\tflags interval\n")
	}
	if s.Dynamic {
		fmt.Fprintf(b, "\t\tsize %d\n\t\tflags dynamic,timeout\n\t\ttimeout %ds\n", DynamicSize, int(DynamicTimeout.Seconds()))
	}
	if s.Counter {
		b.WriteString("\t\tcounter\n")
	}
	if len(s.Elements) > 0 {
		b.WriteString("\t\telements = {\n")
		for _, e := range s.Elements {
			text := e.String()
			if s.Expression != "" {
				text = untyped(text)
			}
			fmt.Fprintf(b, "\t\t\t%s,\n", text)
		}
		b.WriteString("\t\t}\n")
	}
	b.WriteString("\t}\n")
}

// untyped is an element with its addresses as the numbers that they are to nft where
// it knows nothing but their length.
func untyped(element string) string {
	parts := strings.Fields(element)
	for i, part := range parts {
		if a, err := netip.ParseAddr(part); err == nil {
			parts[i] = fmt.Sprintf("0x%x", a.AsSlice())
		}
	}
	return strings.Join(parts, " ")
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
