package firewall

import (
	"fmt"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

// Name is that of our tables, which are ours alone: whoever finds them may replace
// or delete them.
const Name = "v6net"

// The families of our tables.
const (
	FamilyInet   = "inet"   // what the host forwards
	FamilyIPv4   = "ip"     // what only IPv4 packets are asked
	FamilyBridge = "bridge" // what containers send
)

// VouchMark is the bit of the packet mark that says "v6net has accepted this".
//
// No bit is free of everybody (github.com/fwmark/registry): Calico's default
// mask is 0xffff0000 and was 0xff000000, Tailscale's 0xff0000, Kubernetes has
// 0xc000, Podman and CNI portmap 0x2000, AWS 0x80, and people take small numbers.
// This one is claimed by Cilium alone, which claims all but 0xe000. Of whole
// values it is neither in Docker's overlay 0xd0c4e3 nor in wg-quick's 0xca6c.
// Beside a program that does set it, packets of that program's would pass the
// forward chain as ours do.
//
// The bit is set in the forward hook, after the routing decision, so that no
// `ip rule` sees it, and a packet loses its mark when it enters another
// namespace (net/core/skbuff.c, skb_scrub_packet), so that no container can set it.
const VouchMark = 0x1000

// Priorities of our base chains, relative to include/uapi/linux/netfilter_ipv4.h.
const (
	priorityRaw = -300 // NF_IP_PRI_RAW: before connection tracking
	// Exported since who comes before it cannot know what has been vouched for.
	PriorityForward = -10  // before the filter chains of others: a mark must be there when they look
	priorityDNAT    = -100 // NF_IP_PRI_NAT_DST
	prioritySNAT    = 100  // NF_IP_PRI_NAT_SRC

	// Translation of prefixes has no state, and conntrack must see none of it: before
	// conntrack at -200, and after the last that asks it.
	priorityInside, priorityOutside = -299, 300
)

// empty is a ruleset without elements that depend on the host.
func empty(w wanted) Ruleset { return Ruleset{Tables: tables(w), Routed: routedTable(w.log)} }

// tables are ours with empty sets. Their chains are the same on every host, but for
// those of what no network wants: each base chain costs every packet of the host.
func tables(w wanted) []Table {
	all := chains(w)
	if w.translation {
		all = append(all, translationChains()...)
	}
	return []Table{
		{Family: FamilyInet, Name: Name, Sets: append(sets(), w.log.sets(logBridges)...), Chains: all},
		{Family: FamilyIPv4, Name: Name, Sets: []Set{{Name: "loops", Key: typeLink}}, Chains: loopbackChains()},
		{Family: FamilyBridge, Name: Name, Sets: append(senderSets(), w.log.sets(logPorts)...), Chains: senderChains(w.log)},
	}
}

// wanted is what there are rules for only where some network wants it.
type wanted struct {
	log         logging
	translation bool // of prefixes
}

// deciding are chains that do what the rule that leads there has decided.
var deciding = []string{"vouch", "stray_out", "stray_in", "posing", "nobody", "confined_out", "confined_in", "invalid"}

// linkOnly drops what is for one link alone (RFC 4890 §4.3.3): nobody believes it with
// a hop limit below 255, and nobody has to see it. To conntrack it is of no connection.
const linkOnly = "icmpv6 type @link_only counter drop"

// chains are those of what the host forwards.
func chains(w wanted) []Chain {
	l := w.log
	return []Chain{
		// What a packet of a known connection is asked costs each of them: so that is
		// asked first by which most packets are told.
		{Name: "forward", Hook: &Hook{"filter", "forward", PriorityForward}, Rules: []string{
			"oifname @networks goto inward",
			"iifname @networks goto outward",
		}},
		{Name: "inward", Rules: []string{
			// All networks are bridges, which is told without asking a set.
			`meta iifkind "bridge" goto across`,
			"goto towards",
		}},
		{Name: "across", Rules: []string{
			"iifname . oifname @same goto within",
			"iifname @internal goto confined_out",
			"goto towards",
		}},
		{Name: "towards", Rules: slices.Concat(w.known(), []string{
			// A packet from a link-local address stays on its link (RFC 3927 §2.7), and
			// leaves under no address of the host's. In IPv6 the kernel sees to that.
			"ip saddr 169.254.0.0/16 goto stray",
			// Before all else, what conntrack knows included: whoever scans a
			// prefix must not fill the host's neighbour cache (RFC 6583). The
			// forward hook precedes the neighbour's resolution.
			"ip6 daddr != @live6 ip6 daddr @pools6 ip6 daddr != @autonomous6 goto nobody",
			"ip daddr != @live4 ip daddr @pools4 goto nobody",
			"ct state established,related goto vouch",
			linkOnly,
			// RFC 6092 REC-6: who is elsewhere has no container's address.
			"ip6 saddr @pools6 iifname != @networks goto posing",
			"ip saddr @pools4 iifname != @networks goto posing",
			// Published means reachable by anyone, from other networks too. A
			// translated port is reached by the host's address alone: who knows
			// the container's own does not get in that way. An internal network lets
			// nothing in, so that it is not asked for before.
			"ct status dnat oifname @let_in goto vouch",
			"ip6 daddr . meta l4proto . th dport @published6 oifname @let_in goto vouch",
			"ip daddr . meta l4proto . th dport @published4 oifname @let_in goto vouch",
			"oifname @internal goto confined_in",
			// Never dropped (RFC 4890 §4.3.1), whoever sends them. They are for
			// connections that conntrack has forgotten; others are "related".
			"icmpv6 type @errors goto vouch",
			// In IPv4 for containers that are known by their own address.
			"icmp type @errors4 ip daddr != @masquerade4 goto vouch",
			"iifname @networks goto between",
			"goto inbound",
		})},
		{Name: "outward", Rules: slices.Concat(w.known(), []string{
			"ip saddr 169.254.0.0/16 goto stray_out",
			"ct state established,related goto vouch",
			linkOnly,
			"iifname @internal goto confined_out",
			"ip6 saddr != @masquerade6 goto leaving",
			"ip saddr != @masquerade4 goto leaving",
			// NAT leaves these alone: a container's private address would get out.
			"ct state invalid goto invalid",
			"goto leaving",
		})},
		// Inside one bridge: frames that br_netfilter shows us, and connections
		// that come back from the host's address. Neighbor discovery is
		// untracked, so that conntrack does not know it.
		{Name: "within", Rules: append([]string{
			"oifname @icc goto vouch",
			"ct state established,related goto vouch",
			"ct status dnat goto vouch",
		}, l.out(DeniedNeighbour)...)},
		{Name: "between", Rules: append([]string{
			"iifname @mutual oifname @mutual oifname @let_in goto vouch",
		}, l.between(DeniedIsolated)...)},
		{Name: "inbound", Rules: append([]string{
			"meta nfproto ipv4 oifname @open4 oifname @let_in goto vouch",
			"meta nfproto ipv6 oifname @open6 oifname @let_in goto vouch",
			"icmpv6 type echo-request oifname @let_in goto vouch",
			"icmp type echo-request ip daddr != @masquerade4 oifname @let_in goto vouch",
		}, l.in(DeniedUnpublished)...)},
		{Name: "leaving", Rules: []string{
			"oifname @parents iifname @let_out goto vouch",
			// A bridge that is neither ours nor a parent is another engine's,
			// whose own rules judge who may enter.
			`meta oifkind "bridge" return`,
			"iifname @let_out goto vouch",
		}},
		{Name: "vouch", Rules: []string{
			fmt.Sprintf("meta mark set meta mark | %#x accept", VouchMark),
		}},
		{Name: "stray", Rules: []string{
			"iifname @networks goto stray_out",
			"goto stray_in",
		}},
		{Name: "stray_out", Rules: l.out(DeniedStray)},
		{Name: "stray_in", Rules: l.in(DeniedStray)},
		{Name: "posing", Rules: l.in(DeniedPosing)},
		{Name: "nobody", Rules: l.in(DeniedNobody)},
		{Name: "confined_out", Rules: l.out(DeniedInternal)},
		{Name: "confined_in", Rules: l.in(DeniedInternal)},
		{Name: "invalid", Rules: l.out(DeniedInvalid)},
		// A name server for containers listens on an address of the bridge, which
		// may be a global one that everybody has a way to. It is no resolver for
		// the world, nor for other networks, internal ones included. What the host
		// itself asks comes in by lo.
		//
		// What comes from an isolated network is dropped, neighbor discovery
		// included: the host has no address there to be found.
		// What comes in by a container's port has got past its bridge: the port has lost
		// that, or it is a frame to 01:80:c2:00:00:0X, which a bridge leaves to the host
		// (IEEE 802.1Q, reserved addresses) but where frames are judged (internal/kernel/link).
		// Nothing that is honest is among them, and none of it is forwarded (ip_forward and
		// ip6_forward want PACKET_HOST).
		{Name: "input", Hook: &Hook{"filter", "input", PriorityForward}, Rules: []string{
			fmt.Sprintf("iifname %s counter drop", quote(spec.VethPrefix+"*")),
			"ip6 daddr @resolvers6 meta l4proto . th dport @names iifname . ip6 daddr != @clients6 counter drop",
			"ip daddr @resolvers4 meta l4proto . th dport @names iifname . ip daddr != @clients4 counter drop",
			"meta nfproto ipv4 iifname @isolated4 counter drop",
			"meta nfproto ipv6 iifname @isolated6 counter drop",
			"iifname . ip6 daddr @asking6 meta l4proto . th dport @names goto vouch",
			"iifname . ip daddr @asking4 meta l4proto . th dport @names goto vouch",
		}},
		{Name: "prerouting", Hook: &Hook{"nat", "prerouting", priorityDNAT}, Rules: []string{
			// What comes in by a link for 127.0.0.1 is no packet of the host's, whose own are
			// translated as they go out: untranslated it is a martian, and goes no further.
			"ip daddr 127.0.0.0/8 return",
			"fib daddr type local goto translate",
		}},
		{Name: "output", Hook: &Hook{"nat", "output", priorityDNAT}, Rules: []string{
			"fib daddr type local goto translate",
		}},
		{Name: "translate", Rules: []string{
			// IPv6 has no route_localnet: a packet from ::1 cannot leave the host.
			"ip6 daddr ::1 return",
			// A port is every address's or one's, so that either may come first.
			"meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @ports6",
			"dnat ip6 to ip6 daddr . meta l4proto . th dport map @addresses6",
			"dnat ip to ip daddr . meta l4proto . th dport map @addresses4",
			// One loopback address stands for all of the host's. The others are those of
			// services of its own, such as 127.0.0.53 of systemd-resolved.
			"ip daddr 127.0.0.1 goto ports",
			"ip daddr 127.0.0.0/8 return",
			"goto ports",
		}},
		{Name: "ports", Rules: []string{
			"meta nfproto ipv4 dnat ip to meta l4proto . th dport map @ports4",
		}},
		{Name: "postrouting", Hook: &Hook{"nat", "postrouting", prioritySNAT}, Rules: []string{
			"oifname @networks goto arriving",
			"snat ip to ip saddr map @outbound4",
			"snat ip6 to ip6 saddr map @outbound6",
			"ip saddr @masquerade4 masquerade",
			"ip6 saddr @masquerade6 masquerade",
		}},
		{Name: "arriving", Rules: []string{
			// A loopback source must not leave the host (RFC 1122 §3.2.1.3).
			"ip saddr 127.0.0.0/8 masquerade",
			// Hairpin: the answer must come back through the host, or the
			// client hears from an address it never called.
			"ct status dnat ip saddr @pools4 masquerade",
			"ct status dnat ip6 saddr @pools6 masquerade",
		}},
	}
}

// loopbackChains have a table of their own: what every IPv4 packet is asked costs an IPv6
// packet nothing there.
func loopbackChains() []Chain {
	return []Chain{
		// Our bridges have route_localnet, so that the host's own 127.0.0.1 can be
		// translated to a container. A container must not get at the host's
		// loopback services by it (CVE-2020-8558), nor pass for the host itself.
		{Name: "loopback", Hook: &Hook{"filter", "prerouting", priorityRaw}, Rules: []string{
			"ip daddr 127.0.0.0/8 iifname @loops counter drop",
			"ip saddr 127.0.0.0/8 iifname @loops counter drop",
		}},
	}
}

// known has what leaves its bridge known by its address outside.
func (w wanted) known() []string {
	if !w.translation {
		return nil
	}
	return []string{fmt.Sprintf("ip6 saddr @inside_pools6 meta mark set meta mark | %#x", outsideMark)}
}

// translationChains are those of networks with translated prefixes.
func translationChains() []Chain {
	return []Chain{
		// RFC 6296. What an address is on the other side is in maps, one element for
		// each live address: so there is no arithmetic to be done by rules, and
		// nothing else is translated. An error has the addresses of the packet that
		// it is about, too.
		{Name: "inside", Hook: &Hook{"filter", "prerouting", priorityInside}, Rules: []string{
			"ip6 daddr != @outside_pools6 return",
			// A container is known by its outside address on its own bridge, too,
			// to whom it calls by his (§4, hairpinning).
			fmt.Sprintf("iifname @networks meta mark set meta mark | %#x", outsideMark),
			"icmpv6 type @errors @th,128,128 set @th,128,128 map @inside_about6",
			"ip6 daddr set ip6 daddr map @inside6",
			"ip6 daddr @outside_pools6 counter drop", // nobody's
		}},
		// Errors of the host's own are about packets as they were when it could not
		// forward them, with the receiver's address inside. Who is on a network called
		// it by the one outside: inside ones lead to their own bridge alone.
		{Name: "errors", Hook: &Hook{"filter", "output", PriorityForward}, Rules: []string{
			fmt.Sprintf("oifname @networks icmpv6 type @errors meta mark set meta mark | %#x", outsideMark),
		}},
		{Name: "outside", Hook: &Hook{"filter", "postrouting", priorityOutside}, Rules: []string{
			fmt.Sprintf("oifname @networks meta mark & %#x == 0x0 return", outsideMark),
			"icmpv6 type @errors @th,256,128 set @th,256,128 map @outside_about6",
			"ip6 saddr set ip6 saddr map @outside6",
			"oifname != @networks ip6 saddr @inside_pools6 counter drop",
		}},
	}
}

// outsideMark is the bit of the packet mark that says "the sender is to be known by
// its outside address". Cilium alone claims it, as it does [VouchMark]. Before the
// routing decision it is set in packets alone with which a container calls one by its
// outside address.
const outsideMark = 0x800

// The types of the sets' keys and values.
const (
	typeLink     = "ifname"
	typePair     = "ifname . ifname"
	typeICMPv6   = "icmpv6_type"
	typeICMP     = "icmp_type"
	typePort     = "inet_proto . inet_service"
	typeAddr4    = "ipv4_addr"
	typeAddr6    = "ipv6_addr"
	typeService4 = "ipv4_addr . inet_proto . inet_service"
	typeService6 = "ipv6_addr . inet_proto . inet_service"
	typeWay4     = "ifname . ipv4_addr"
	typeWay6     = "ifname . ipv6_addr"
	typeTarget4  = "ipv4_addr . inet_service"
	typeTarget6  = "ipv6_addr . inet_service"
)

// sets are those that chains look at, empty.
func sets() []Set {
	return []Set{
		{Name: "networks", Key: typeLink}, // every bridge of ours
		{Name: "internal", Key: typeLink}, // no way to or from outside
		{Name: "open4", Key: typeLink},    // any port is open, by a container's own IPv4 address
		{Name: "open6", Key: typeLink},
		{Name: "isolated4", Key: typeLink}, // the host has no IPv4 there, and takes none from there
		{Name: "isolated6", Key: typeLink},
		{Name: "mutual", Key: typeLink}, // isolate is off
		{Name: "same", Key: typePair},   // every bridge, with itself
		{Name: "icc", Key: typeLink},    // containers of the bridge reach each other
		{Name: "parents", Key: typeLink},
		// To count by, what belongs to no known connection: the bridges that let anything
		// in (inbound is published or open), and for the others every bridge.
		{Name: "let_in", Key: typeLink, Counter: true},
		{Name: "let_out", Key: typeLink, Counter: true},
		{Name: "denied_in", Key: typeLink, Counter: true},
		{Name: "denied_out", Key: typeLink, Counter: true},
		{Name: "errors", Key: typeICMPv6, Elements: elements(
			"destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem")},
		{Name: "errors4", Key: typeICMP, Elements: elements("destination-unreachable", "time-exceeded", "parameter-problem")},
		// Neighbor discovery and its inverse, multicast listeners, SEND's
		// certification paths (RFC 3971 §6.4), multicast routers (RFC 4286).
		{Name: "link_only", Key: typeICMPv6, Elements: elements(
			"nd-router-solicit", "nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert", "nd-redirect", "ind-neighbor-solicit", "ind-neighbor-advert",
			"mld-listener-query", "mld-listener-report", "mld-listener-done", "mld2-listener-report", "148", "149", "151", "152", "153")},
		{Name: "published4", Key: typeService4}, // a container's own address and port
		{Name: "published6", Key: typeService6},
		{Name: "ports4", Key: typePort, Value: typeTarget4}, // a port of every host address, to a container's
		{Name: "ports6", Key: typePort, Value: typeTarget6},
		{Name: "addresses4", Key: typeService4, Value: typeTarget4}, // a port of one host address
		{Name: "addresses6", Key: typeService6, Value: typeTarget6},
		{Name: "live4", Key: typeAddr4}, // addresses of the pools that somebody has
		{Name: "live6", Key: typeAddr6},
		{Name: "pools4", Key: typeAddr4, Interval: true},
		{Name: "pools6", Key: typeAddr6, Interval: true},
		{Name: "autonomous6", Key: typeAddr6, Interval: true}, // pools of SLAAC hosts
		{Name: "masquerade4", Key: typeAddr4, Interval: true},
		{Name: "masquerade6", Key: typeAddr6, Interval: true},
		{Name: "outbound4", Key: typeAddr4, Value: typeAddr4, Interval: true}, // under which address of the host's
		{Name: "outbound6", Key: typeAddr6, Value: typeAddr6, Interval: true},
		{Name: "inside_pools6", Key: typeAddr6, Interval: true},
		{Name: "outside_pools6", Key: typeAddr6, Interval: true},
		{Name: "inside6", Key: typeAddr6, Value: typeAddr6},                                                 // what an outside address is inside
		{Name: "outside6", Key: typeAddr6, Value: typeAddr6},                                                // and the other way round
		{Name: "inside_about6", Key: typeAddr6, Value: typeAddr6, Expression: "@th,128,128 : @th,128,128"},  // the source of what an error is about
		{Name: "outside_about6", Key: typeAddr6, Value: typeAddr6, Expression: "@th,256,128 : @th,256,128"}, // and its destination
		{Name: "names", Key: typePort, Elements: elements("tcp . 53", "udp . 53")},                          // DNS
		{Name: "resolvers4", Key: typeAddr4},                                                                // addresses of name servers
		{Name: "resolvers6", Key: typeAddr6},
		{Name: "clients4", Key: typeWay4}, // who may ask them: the bridge's containers
		{Name: "clients6", Key: typeWay6},
		{Name: "asking4", Key: typeWay4}, // and whose questions are vouched for
		{Name: "asking6", Key: typeWay6},
	}
}

func elements(keys ...string) []Element {
	out := make([]Element, len(keys))
	for i, k := range keys {
		out[i] = Element{Key: k}
	}
	return out
}
