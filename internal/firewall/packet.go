package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// packet is one packet on its way through the ruleset: what rules look at, in the
// words of nft, and by the names that they have there. What a packet does not
// have is absent, and no rule that asks for it matches.
type packet struct {
	fields map[string]string
	mark   uint64
	dnat   bool // its destination has been translated
}

// fields are the names by which rules look at a packet, the longer ones first.
var fields = []string{
	"iifname", "oifname", "meta iifkind", "meta oifkind", "meta nfproto", "meta l4proto", "meta mark", "th dport", "icmpv6 type", "icmp type",
	"ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr", "ct state", "ct status", "fib daddr type", "@th,128,128", "@th,256,128",
}

// decision is the rule that ended a packet's way through a hook.
type decision struct {
	table       string // its family and name; empty: no rule decided
	chain, rule string
	verdict     string // accept, drop, masquerade, snat, dnat; empty: the end of a chain, which accepts
	outbound    string // of snat: the address
}

// run sends the packet through a chain and those that it leads to. What [deciding] chains
// do is the decision of the last rule that led there.
func (t Table) run(name string, p *packet) decision {
	d := decision{chain: name}
	for {
		i := slices.IndexFunc(t.Chains, func(c Chain) bool { return c.Name == name })
		next := ""
		for _, rule := range t.Chains[i].Rules {
			done := t.rule(rule, p)
			switch {
			case done.verdict == "return":
				return decision{chain: name, rule: rule}
			case strings.HasPrefix(done.verdict, "goto "):
				next = strings.TrimPrefix(done.verdict, "goto ")
				d = decision{chain: name, rule: rule}
			case done.verdict != "":
				if !slices.Contains(deciding, name) {
					d = decision{chain: name, rule: rule}
				}
				d.verdict, d.outbound = done.verdict, done.outbound
				return d
			default:
				continue
			}
			break
		}
		if next == "" {
			return decision{chain: name}
		}
		name = next
	}
}

func (t Table) has(chain string) bool {
	return slices.ContainsFunc(t.Chains, func(c Chain) bool { return c.Name == chain })
}

// rule is what one rule decides about the packet: nothing, if it does not match.
func (t Table) rule(text string, p *packet) decision {
	rest := text
	accept := func(words string) bool {
		after, ok := strings.CutPrefix(rest+" ", words+" ")
		if ok {
			rest = strings.TrimSuffix(after, " ")
		}
		return ok
	}
	word := func() (w string) {
		w, rest, _ = strings.Cut(rest, " ")
		return w
	}
	load := func() (key string, names []string, ok bool) {
		ok = true
		var values []string
		for {
			i := slices.IndexFunc(fields, accept)
			if i < 0 {
				panic(fmt.Sprintf("rule %q: no field at %q", text, rest)) // TestEveryRuleIsUnderstood
			}
			value, has := p.field(fields[i])
			ok = ok && has
			names, values = append(names, fields[i]), append(values, value)
			if !accept(".") {
				return strings.Join(values, " . "), names, ok
			}
		}
	}
	for rest != "" {
		switch {
		case accept("counter"):
		case accept("update"):
			_, rest, _ = strings.Cut(rest, "} ")
		case accept("log"):
			return decision{} // it says what the next rule does
		case accept("accept"), accept("drop"), accept("return"), accept("masquerade"):
			return decision{verdict: strings.Fields(text)[len(strings.Fields(text))-1]}
		case accept("goto"):
			return decision{verdict: "goto " + word()}
		case accept("meta mark set meta mark |"):
			bit, _ := strconv.ParseUint(word(), 0, 32)
			p.mark |= bit
		case accept("dnat ip to"), accept("dnat ip6 to"), accept("snat ip to"), accept("snat ip6 to"):
			key, _, ok := load()
			accept("map")
			value, found := t.lookup(word(), key)
			// It is about packets of its family alone.
			if six := strings.Contains(text, "nat ip6 to "); !ok || !found || six != p.to().Is6() {
				return decision{}
			}
			if strings.Contains(text, "dnat ") {
				p.translate(value)
				return decision{verdict: "dnat"}
			}
			return decision{verdict: "snat", outbound: value}
		default:
			key, names, ok := load()
			if accept("set") {
				load()
				accept("map")
				value, found := t.lookup(word(), key)
				if !ok || !found {
					return decision{}
				}
				p.fields[names[0]] = value
				continue
			}
			if accept("&") {
				mask, _ := strconv.ParseUint(word(), 0, 32)
				word()
				want, _ := strconv.ParseUint(word(), 0, 32)
				if p.mark&mask != want {
					return decision{}
				}
				continue
			}
			not := accept("!=")
			operand := word()
			var is bool
			if strings.HasPrefix(operand, "@") {
				_, is = t.lookup(operand, key)
			} else {
				is = matches(key, operand)
			}
			if !ok || is == not {
				return decision{}
			}
		}
	}
	return decision{}
}

func (p *packet) field(name string) (string, bool) {
	switch name {
	case "meta mark":
		return "", true
	case "ct status":
		if p.dnat {
			return "dnat", true
		}
		return "", true
	}
	value, ok := p.fields[name]
	return value, ok
}

// translate gives the packet another destination, `ADDRESS . PORT`.
func (p *packet) translate(to string) {
	addr, port, _ := strings.Cut(to, " . ")
	for _, name := range []string{"ip daddr", "ip6 daddr"} {
		if _, ok := p.fields[name]; ok {
			p.fields[name] = addr
		}
	}
	p.fields["th dport"], p.dnat = port, true
}

// lookup finds a key in the table's set of the name `@set`; a map has a value for it.
func (t Table) lookup(name, key string) (value string, found bool) {
	i := slices.IndexFunc(t.Sets, func(s Set) bool { return "@"+s.Name == name })
	for _, e := range t.Sets[i].Elements {
		if e.Key == key || t.Sets[i].Interval && matches(key, e.Key) {
			return e.Value, true
		}
	}
	return "", false
}

// matches compares a value with a prefix, a list of flags, or another value.
func matches(value, operand string) bool {
	if prefix, err := netip.ParsePrefix(operand); err == nil {
		addr, err := netip.ParseAddr(value)
		return err == nil && prefix.Contains(addr)
	}
	return slices.Contains(strings.Split(operand, ","), value)
}
