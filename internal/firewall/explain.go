package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// Explain says what the ruleset does with a call, and which rule decides. It sends
// a packet through the ruleset as it is given to the kernel, so that the two cannot
// differ.
func (c Config) Explain(call spec.Call, host Host) (spec.Judgement, error) {
	if err := call.Validate(); err != nil {
		return spec.Judgement{}, err
	}
	r, err := Build(c)
	if err != nil {
		return spec.Judgement{}, err
	}
	e := explanation{config: c, tables: r.Tables, call: call, host: host}
	e.judge()
	return e.out, nil
}

// Host is what has to be known of it to follow a call.
type Host struct {
	Addresses []netip.Addr // its own
	// Ways are by which links it reaches the ends of the call that are on no network.
	Ways map[netip.Addr]spec.Way
	// UnjudgedPorts: what containers send is judged where it comes to the host alone;
	// UnjudgedSenders: nor there.
	UnjudgedPorts, UnjudgedSenders bool
	// ShownFrames are the families whose packets br_netfilter shows to the rules while a
	// bridge forwards them.
	ShownFrames4, ShownFrames6 bool
}

func (h Host) showsFrames(a netip.Addr) bool {
	return a.Is4() && h.ShownFrames4 || a.Is6() && h.ShownFrames6
}

// explanation is one call on its way.
type explanation struct {
	config Config
	tables []Table
	call   spec.Call
	host   Host
	to     *Network // where the call comes to; nil: to none
	out    spec.Judgement
}

func (e *explanation) step(format string, args ...any) {
	e.out.Steps = append(e.out.Steps, fmt.Sprintf(format, args...))
}

func (e *explanation) end(verdict spec.Verdict, why string, d decision) {
	e.out.Verdict, e.out.Why = verdict, why
	if d.rule != "" {
		e.out.Table, e.out.Chain, e.out.Rule = d.table, d.chain, d.rule
	}
}

// run sends the packet through a base chain of whichever table has it. What no network
// wants has none.
func (e *explanation) run(chain string, p *packet) decision {
	i := slices.IndexFunc(e.tables, func(t Table) bool { return t.has(chain) })
	if i < 0 {
		return decision{chain: chain}
	}
	d := e.tables[i].run(chain, p)
	d.table = e.tables[i].Family + " " + e.tables[i].Name
	return d
}

// at is the network that an address is on; nil: none.
func (c Config) at(a netip.Addr) *Network {
	for i, n := range c.Networks {
		if slices.ContainsFunc(n.Pools, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return &c.Networks[i]
		}
	}
	return nil
}

// inside is what an address is on its network: itself, but for one outside of a
// translated prefix.
func (c Config) inside(a netip.Addr) netip.Addr {
	for _, n := range c.Networks {
		for _, t := range n.Translations {
			if in, ok := t.In(a); ok {
				return in
			}
		}
	}
	return a
}

// Translated is the network with a translated prefix that a call enters or leaves; nil: none.
func (c Config) Translated(call spec.Call) *Network {
	from, to := c.at(c.inside(call.From)), c.at(c.inside(call.To))
	for _, n := range []*Network{from, to} {
		if n != nil && len(n.Translations) > 0 && (from != to || c.inside(call.To) != call.To) {
			return n
		}
	}
	return nil
}

func (e *explanation) judge() {
	if in := e.config.inside(e.call.From); in != e.call.From {
		e.step("%s is %s inside (nptv6)", e.call.From, in)
		e.call.From = in
	}
	from, to := e.config.at(e.call.From), e.call.To
	p := e.packet()
	switch {
	case slices.Contains(e.host.Addresses, e.call.From):
		e.end(spec.Unjudged, "the host itself is the caller: what it sends to its containers is not judged", decision{})
		return
	case from != nil:
		e.step("%s is %s", e.call.From, from.whose(e.call.From))
		if !from.has(e.call.From) {
			e.forged(from)
			return
		}
		p.fields["iifname"], p.fields["meta iifkind"] = quote(from.Bridge), quote("bridge")
	default:
		way := e.outside(e.call.From)
		p.fields["iifname"] = quote(way.Link)
		if way.Bridge {
			p.fields["meta iifkind"] = quote("bridge")
		}
	}
	if d := e.run("inside", p); d.verdict == "drop" {
		e.end(spec.Dropped, e.reason(d), d)
		return
	}
	if d := e.run("loopback", p); d.verdict == "drop" {
		e.end(spec.Dropped, e.reason(d), d)
		return
	}
	if inside := p.to(); inside != to {
		e.step("%s is %s inside (nptv6)", to, inside)
	}
	before := p.to()
	p.fields["fib daddr type"] = "unicast"
	if slices.Contains(e.host.Addresses, before) {
		p.fields["fib daddr type"] = "local"
	}
	if e.run("prerouting", p).verdict == "dnat" {
		e.step("port %d of %s is published: translated to port %s of %s", e.call.Port, before, p.fields["th dport"], p.to())
	}
	e.route(p, from)
}

// forged is what becomes of a call from an address on a network that nobody has.
func (e *explanation) forged(from *Network) {
	stays := from.ICC && e.config.at(e.call.To) == from && !slices.Contains(e.host.Addresses, e.call.To)
	switch {
	case e.host.UnjudgedSenders:
		e.end(spec.Unjudged, "no container has that address, and this kernel cannot filter on bridges: under which address containers send is not judged here", decision{})
	case !e.host.UnjudgedPorts:
		e.end(spec.Dropped, "no container has that address: it is dropped at the container's port (antispoof)", decision{})
	case stays && e.host.showsFrames(e.call.To):
		e.end(spec.Dropped, "no container has that address: it is dropped while the bridge forwards it, which br_netfilter shows to the rules (antispoof)", decision{})
	case stays:
		e.end(spec.Unjudged, "no container has that address, and both are on one bridge, which passes it: here the containers' ports are not judged, nor does br_netfilter show what is bridged to the rules (docs/firewall.md)", decision{})
	default:
		e.end(spec.Dropped, "no container has that address: it is dropped where it comes to the host (antispoof)", decision{})
	}
}

// outside says that an address is on no network of ours, and by which link it is reached.
// Where that is not known, it is a parent.
func (e *explanation) outside(a netip.Addr) spec.Way {
	if oneLink(a) {
		e.step("%s is an address of one link", a)
		return spec.Way{Link: "outside"}
	}
	way, known := e.host.Ways[a]
	switch {
	case !known && len(e.config.Parents) > 0:
		way.Link = e.config.Parents[0]
	case !known:
		way.Link = "outside"
	}
	if !known || slices.Contains(e.config.Parents, way.Link) {
		e.step("%s is outside", a)
	} else {
		e.step("%s is outside, behind %s", a, way.Link)
	}
	return way
}

// oneLink reports whether the kernel leaves packets from and to an address on their link; in
// IPv4 our rules do.
func oneLink(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// route is what follows the routing decision.
func (e *explanation) route(p *packet, from *Network) {
	to := p.to()
	if slices.Contains(e.host.Addresses, to) {
		switch d := e.run("input", p); d.verdict {
		case "drop":
			e.end(spec.Dropped, e.reason(d), d)
			return
		case "accept":
			e.end(spec.Accepted, e.reason(d), d)
			return
		}
		e.end(spec.Unjudged, e.hostsOwn(), decision{})
		return
	}
	if from != nil && oneLink(to) {
		e.end(spec.Unjudged, "it is an address of one link: the call stays on the caller's bridge, where somebody has it or nobody", decision{})
		return
	}
	if a := e.call.From; oneLink(a) || oneLink(to) {
		e.end(spec.Dropped, "an address of one link is forwarded neither from nor to (RFC 4291 §2.5.6)", decision{})
		return
	}
	there := e.config.at(to)
	e.to = there
	switch {
	case there == nil && from == nil:
		e.end(spec.Unjudged, "neither address is on a network of v6net's", decision{})
		return
	case there == nil:
		way := e.outside(to)
		p.fields["oifname"] = quote(way.Link)
		if way.Bridge {
			p.fields["meta oifkind"] = quote("bridge")
		}
	default:
		e.step("%s is %s", to, there.whose(to))
		p.fields["oifname"] = quote(there.Bridge)
		if there == from && (to == e.call.To || !from.ICC && e.host.showsFrames(to)) {
			e.bridged(p, from)
			return
		}
	}
	d := e.run("forward", p)
	switch d.verdict {
	case "drop":
		e.end(spec.Dropped, e.reason(d)+e.publishedElsewhere(d), d)
		return
	case "":
		e.end(spec.Unjudged, e.reason(d), d)
		return
	}
	e.end(spec.Accepted, e.reason(d)+e.answeredElsewhere(), d)
	e.leave(p)
}

// bridged is what becomes of a call that stays on its bridge.
func (e *explanation) bridged(p *packet, n *Network) {
	switch to := p.to(); {
	case e.call.To == e.call.From:
		e.end(spec.Unjudged, "the caller has that address itself: it does not leave the container", decision{})
	case !n.ICC && to != e.call.To:
		e.end(spec.Dropped, "containers of the network do not reach each other (com.docker.network.bridge.enable_icc=false): br_netfilter leaves what is translated to the same bridge on it, which does not pass it", decision{})
	case !n.ICC:
		e.end(spec.Dropped, "containers of the network do not reach each other (com.docker.network.bridge.enable_icc=false): the bridge does not pass it", decision{})
	case !n.has(to) && !slices.Contains(n.Live, to):
		e.end(spec.Unjudged, fmt.Sprintf("nobody on the network has %s: the caller asks on the bridge who has it, and nobody answers", to), decision{})
	case e.host.showsFrames(to):
		d := e.run("forward", p)
		e.end(spec.Accepted, "both are on one bridge, and what it passes br_netfilter shows to the rules: "+e.reason(d), d)
	default:
		e.end(spec.Accepted, "both are on one bridge, which passes it without asking the firewall", decision{})
	}
}

// hostsOwn is why nobody of ours judges what is for the host.
func (e *explanation) hostsOwn() string {
	if e.call.Protocol == ping {
		return "it is for the host itself, whose own rules decide whether it answers"
	}
	return "it is for the host itself, where no port of a container is published like that: the host's own services and rules decide"
}

// publishedElsewhere says at which port of the host's a port is published that is not open
// at the container's own address.
func (e *explanation) publishedElsewhere(d decision) string {
	if e.to == nil || d.chain != "inbound" && d.chain != "between" {
		return ""
	}
	for _, p := range e.to.Published {
		if p.HostPort == 0 || p.Container != e.call.To || p.Port != e.call.Port || p.Protocol != e.call.Protocol {
			continue
		}
		at := "the host's addresses"
		if !p.everyAddress() {
			at = p.HostIP.String()
		}
		return fmt.Sprintf("; it is published at port %d of %s, by which the container is reached", p.HostPort, at)
	}
	return ""
}

// answeredElsewhere is what becomes of a call from elsewhere to the inside address of a
// translated prefix: there is no state by which its answers could be told from others.
func (e *explanation) answeredElsewhere() string {
	if e.to == nil {
		return ""
	}
	for _, t := range e.to.Translations {
		if out, ok := t.Out(e.call.To); ok {
			return fmt.Sprintf("; but the answer comes from %s (nptv6), which the caller has not called, and no connection comes of it", out)
		}
	}
	return ""
}

// leave says under which address an accepted packet goes on.
func (e *explanation) leave(p *packet) {
	switch d := e.run("postrouting", p); d.verdict {
	case "masquerade":
		e.step("it goes on under an address of the host's (masquerade)")
	case "snat":
		e.step("it goes on under the host's address %s", d.outbound)
	}
	before := p.fields["ip6 saddr"]
	e.run("outside", p)
	if after := p.fields["ip6 saddr"]; after != before {
		e.step("it goes on under %s (nptv6)", after)
	}
}

// ping is the protocol of a call that is an echo request.
const ping = "ping"

// packet is the first of the call, before anybody has seen it.
func (e *explanation) packet() *packet {
	p := &packet{fields: map[string]string{"ct state": "new", "meta iifkind": "", "meta oifkind": ""}}
	family, nfproto := "ip", "ipv4"
	if e.call.To.Is6() {
		family, nfproto = "ip6", "ipv6"
	}
	p.fields[family+" saddr"], p.fields[family+" daddr"] = e.call.From.String(), e.call.To.String()
	p.fields["meta nfproto"] = nfproto
	switch {
	case e.call.Protocol != ping:
		p.fields["meta l4proto"], p.fields["th dport"] = e.call.Protocol, fmt.Sprint(e.call.Port)
	case e.call.To.Is6():
		p.fields["meta l4proto"], p.fields["icmpv6 type"] = "ipv6-icmp", "echo-request"
	default:
		p.fields["meta l4proto"], p.fields["icmp type"] = "icmp", "echo-request"
	}
	return p
}

// to is where the packet is going by now.
func (p *packet) to() netip.Addr {
	for _, name := range []string{"ip daddr", "ip6 daddr"} {
		if text, ok := p.fields[name]; ok {
			a, _ := netip.ParseAddr(text)
			return a
		}
	}
	return netip.Addr{}
}

// label is how people know the network.
func (n Network) label() string { return spec.ShortID(n.ID) + " (" + n.Bridge + ")" }

// whose says who has an address of the network's, for people.
func (n Network) whose(a netip.Addr) string {
	i := slices.IndexFunc(n.Containers, func(c Container) bool { return slices.Contains(c.Addresses, a) })
	if i < 0 || n.Containers[i].Name == "" {
		return "on network " + n.label()
	}
	return n.Containers[i].Name + " on network " + n.label()
}

// has reports whether something on the network may send from an address of its pools.
func (n Network) has(a netip.Addr) bool {
	if n.AnySource || slices.Contains(n.Shared, a) {
		return true
	}
	if slices.ContainsFunc(n.Autonomous, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return true
	}
	return slices.ContainsFunc(n.Containers, func(c Container) bool { return slices.Contains(c.Addresses, a) })
}

// reasons are the rules that decide, in words, by what distinguishes each in its
// chain. TestEveryDecisionHasAReason holds them together.
var reasons = map[string][]struct{ rule, words string }{
	"forward": {{"", "it concerns no network of v6net's"}},
	"across":  {{"@internal", "the caller's network is internal: nothing leaves it"}},
	"stray":   {{"", DeniedStray.Words()}},
	"towards": {
		{"@link_only", "it is for one link alone, and is not forwarded"},
		{"goto posing", DeniedPosing.Words()},
		{"@live6", DeniedNobody.Words()},
		{"@live4", DeniedNobody.Words()},
		{"ct state", "it belongs to a connection that is known"},
		{"oifname @internal", "the network is internal: nothing gets in"},
		{"ct status dnat", "the port is published"},
		{"@published6", "the port is published"},
		{"@published4", "the port is published"},
		{"@errors4", "errors are let through to who is not masqueraded"},
		{"@errors", "ICMPv6 errors are let through (RFC 4890)"},
	},
	"outward": {
		{"@link_only", "it is for one link alone, and is not forwarded"},
		{"ip saddr 169.254.0.0/16", DeniedStray.Words()},
		{"invalid", DeniedInvalid.Words()},
		{"ct state", "it belongs to a connection that is known"},
		{"iifname @internal", "the caller's network is internal: nothing leaves it"},
	},
	"within": {
		{"@icc", "containers of the network reach each other"},
		{"ct state", "it belongs to a connection that is known"},
		{"ct status dnat", "the port is published"},
		{"drop", DeniedNeighbour.Words()},
	},
	"between": {
		{"@mutual", "both networks have isolate=off"},
		{"drop", DeniedIsolated.Words()},
	},
	"inbound": {
		{"@open4", "every port of the network is open (inbound=open, or gateway mode nat-unprotected)"},
		{"@open6", "every port of the network is open (inbound=open, or gateway mode nat-unprotected)"},
		{"echo-request", "echo requests are answered"},
		{"drop", DeniedUnpublished.Words()},
	},
	"leaving": {
		{"@parents", "containers may open connections to the outside"},
		{"meta oifkind", "it goes to another engine's bridge, whose own rules judge it"},
		{"@let_out goto vouch", "containers may open connections to the outside"},
	},
	"inside":   {{"@outside_pools6 counter drop", "no container has the address inside (nptv6)"}},
	"outside":  {{"@inside_pools6 counter drop", "the address has none outside (nptv6)"}},
	"loopback": {{"127.0.0.0/8", "loopback addresses are the host's own"}},
	"input": {
		{"iifname \"" + spec.VethPrefix, "it comes in by a container's port, past the bridge"},
		{"@resolvers6", "the name server on the bridge answers that network's containers alone"},
		{"@resolvers4", "the name server on the bridge answers that network's containers alone"},
		{"@asking6", "the network's containers ask its name server (dns=on)"},
		{"@asking4", "the network's containers ask its name server (dns=on)"},
		{"@isolated4", "the network does not reach its host (gateway_mode_ipv4=isolated)"},
		{"@isolated6", "the network does not reach its host (gateway_mode_ipv6=isolated)"},
	},
}

// reason is a decision in words.
func (e *explanation) reason(d decision) string {
	if d.verdict == "drop" && e.to != nil && (d.chain == "inbound" || d.chain == "between") {
		switch {
		case e.to.Inbound == spec.InboundNone:
			return "nobody elsewhere reaches the network, whatever is published (inbound=none)"
		case e.call.Protocol == ping && d.chain == "inbound":
			return "echo requests are let in where a container is known by its own address, which is masqueraded here"
		case e.call.Protocol == ping:
			return "networks do not reach each other (isolate=on)"
		}
	}
	for _, r := range reasons[d.chain] {
		if strings.Contains(d.rule, r.rule) {
			return r.words
		}
	}
	return "no rule is about it"
}
