package firewall

import (
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/v6net/v6net/internal/spec"
)

// Build makes the ruleset of a configuration. Equal configurations make equal
// rulesets, whatever the order of their parts. The error is that of [Config.Validate].
func Build(c Config) (Ruleset, error) {
	if err := c.Validate(); err != nil {
		return Ruleset{}, err
	}
	b := builder{}
	for _, n := range c.Networks {
		b.network(n)
	}
	if err := b.joined(c); err != nil {
		return Ruleset{}, err
	}
	return b.ruleset(c.wanted()), nil
}

// Since lists the changes of elements by which networks come to the others of old or leave
// them, or says that elements alone cannot do that. So it is where one of the two does not
// validate: an element may be several networks' then. A network that is in both is taken for
// the same, and its containers may be left out: they cost nothing.
func (c Config) Since(old Config) (changes []Change, ok bool) {
	before, after := builder{}, builder{}
	if c.wanted() != old.wanted() || c.Validate() != nil || old.Validate() != nil || before.joined(old) != nil || after.joined(c) != nil {
		return nil, false
	}
	before.networks(old, c)
	after.networks(c, old)
	return after.since(before), true
}

// Since lists the changes of elements that turn a ruleset with old in it into one
// with n in its place. It costs what the two cost, and nothing for the other
// networks: so a network is given here with the one container that changes. The
// pools must be the same, since the sets of prefixes are made of all networks'.
// The error is that of [Config.Validate] for n alone: whether other networks have
// its published ports already is not seen.
func (n Network) Since(old Network) ([]Change, error) {
	if err := (Config{Networks: []Network{n}}).Validate(); err != nil {
		return nil, err
	}
	before, after := builder{}, builder{}
	before.network(old)
	after.network(n)
	return after.since(before), nil
}

// builder collects the elements of each set by its name.
type builder map[string][]Element

func (b builder) add(set, key string) { b.addMapping(set, key, "") }

func (b builder) addMapping(set, key, value string) {
	b[set] = append(b[set], Element{key, value})
}

// since lists the changes that turn before into b.
func (b builder) since(before builder) (changes []Change) {
	before.sort()
	b.sort()
	for _, t := range empty(wanted{}).all() {
		for _, set := range t.Sets {
			changes = appendChange(changes, set.Name, before[set.Name], b[set.Name])
		}
	}
	return changes
}

// joined adds what is made of all networks together: prefixes, since the kernel refuses
// intervals that overlap, and the parents.
func (b builder) joined(c Config) error {
	for _, link := range c.Parents {
		b.add("parents", quote(link))
	}
	var pools, masquerade, autonomous, inside, outside netipx.IPSetBuilder
	for _, n := range c.Networks {
		for _, p := range n.Pools {
			pools.AddPrefix(p)
		}
		for _, t := range n.Translations {
			inside.AddPrefix(t.Inside)
			outside.AddPrefix(t.Outside)
		}
		for _, p := range n.Masquerade {
			masquerade.AddPrefix(p)
		}
		for _, p := range n.Autonomous {
			autonomous.AddPrefix(p)
		}
		b.outbound(n)
	}
	for set, prefixes := range map[string]*netipx.IPSetBuilder{
		"pools": &pools, "masquerade": &masquerade, "autonomous": &autonomous, "inside_pools": &inside, "outside_pools": &outside,
	} {
		if err := b.prefixes(set, prefixes); err != nil {
			return err
		}
	}
	b["slaac_pools6"] = slices.Clone(b["autonomous6"])
	return nil
}

// networks adds those of c that are not in another configuration.
func (b builder) networks(c, but Config) {
	there := map[string]bool{}
	for _, n := range but.Networks {
		there[n.ID] = true
	}
	for _, n := range c.Networks {
		if !there[n.ID] {
			b.network(n)
		}
	}
}

func (b builder) network(n Network) {
	bridge := quote(n.Bridge)
	for _, set := range []string{"networks", "loops", "let_out", "denied_in", "denied_out"} {
		b.add(set, bridge)
	}
	b.add("same", bridge+" . "+bridge)
	if n.ICC {
		b.add("icc", bridge)
	}
	if n.Log {
		b.add(logBridges[0], bridge)
	}
	for _, a := range n.Live {
		b.add("live"+family(a), a.String())
	}
	b.senders(n)
	b.routed(n)
	b.translations(n)
	if n.Isolated4 {
		b.add("isolated4", bridge)
	}
	if n.Isolated6 {
		b.add("isolated6", bridge)
	}
	for _, a := range n.Resolvers {
		b.add("resolvers"+family(a), a.String())
		b.add("clients"+family(a), bridge+" . "+a.String())
		if n.Asked {
			b.add("asking"+family(a), bridge+" . "+a.String())
		}
		b.add("clients"+family(a), quote(loopback)+" . "+a.String())
	}
	if n.Internal {
		b.add("internal", bridge)
	}
	if !n.Isolate {
		b.add("mutual", bridge)
	}
	if !n.accepts() {
		return // publishes nothing either
	}
	b.add("let_in", bridge)
	if n.Inbound == spec.InboundOpen || n.Unprotected4 {
		b.add("open4", bridge)
	}
	if n.Inbound == spec.InboundOpen || n.Unprotected6 {
		b.add("open6", bridge)
	}
	for _, p := range n.Published {
		b.published(p)
	}
}

func (b builder) published(p Published) {
	if p.HostIP.IsLoopback() && p.HostIP.Is6() {
		return
	}
	family := family(p.Container)
	target := fmt.Sprintf("%s . %d", p.Container, p.Port)
	switch {
	case p.HostPort == 0:
		b.add("published"+family, fmt.Sprintf("%s . %s . %d", p.Container, p.Protocol, p.Port))
	case p.everyAddress():
		b.addMapping("ports"+family, fmt.Sprintf("%s . %d", p.Protocol, p.HostPort), target)
	default:
		b.addMapping("addresses"+family, fmt.Sprintf("%s . %s . %d", p.HostIP, p.Protocol, p.HostPort), target)
	}
}

// loopback is where packets of the host to itself come in.
const loopback = "lo"

// prefixes adds the prefixes of both families.
func (b builder) prefixes(set string, from *netipx.IPSetBuilder) error {
	all, err := from.IPSet()
	if err != nil {
		return fmt.Errorf("join the prefixes of set %s: %w", set, err)
	}
	for _, p := range all.Prefixes() {
		b.add(set+family(p.Addr()), p.String())
	}
	return nil
}

// outbound adds the addresses under which pools leave. These are not joined, since
// each has its own.
func (b builder) outbound(n Network) {
	for _, p := range n.Masquerade {
		if address := n.outboundOf(p); address.IsValid() {
			b.addMapping("outbound"+family(p.Addr()), p.String(), address.String())
		}
	}
}

// translations adds what the network's live addresses are outside.
func (b builder) translations(n Network) {
	for _, t := range n.Translations {
		for _, inside := range n.Live {
			outside, ok := t.Out(inside)
			if !ok {
				continue
			}
			for _, set := range []string{"inside6", "inside_about6"} {
				b.addMapping(set, outside.String(), inside.String())
			}
			for _, set := range []string{"outside6", "outside_about6"} {
				b.addMapping(set, inside.String(), outside.String())
			}
		}
	}
}

func (b builder) ruleset(w wanted) Ruleset {
	r := empty(w)
	for _, t := range r.all() {
		for i := range t.Sets {
			set := &t.Sets[i]
			set.Elements = sorted(append(set.Elements, b[set.Name]...))
		}
	}
	return r
}

func (b builder) sort() {
	for name := range b {
		b[name] = sorted(b[name])
	}
}

// sorted are the elements in order, each once.
func sorted(elements []Element) []Element {
	slices.SortFunc(elements, compareElements)
	return slices.Compact(elements)
}

// family is how the names of sets of such addresses end.
func family(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}

func quote(link string) string { return `"` + link + `"` }

func (p Published) everyAddress() bool { return !p.HostIP.IsValid() || p.HostIP.IsUnspecified() }

func (p Published) hostAddress() netip.Addr {
	switch {
	case !p.everyAddress():
		return p.HostIP
	case p.Container.Is4():
		return netip.IPv4Unspecified()
	default:
		return netip.IPv6Unspecified()
	}
}
