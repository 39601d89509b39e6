package firewall

import (
	"fmt"
	"net/netip"
	"slices"
)

// Where nothing can be asked at the ports of bridges, containers are judged where
// their packets come to the host: by the bridge, and by MAC and IP address together.
// Frames that stay on their bridge are not seen there, unless br_netfilter shows
// them, and ARP never is; nor can the target of a neighbor advertisement be read.

// routedTable has the chains that stand in for those of [senderChains], in the same
// language, and may ask all sets.
func routedTable(l logging) Table {
	return Table{Family: FamilyInet, Name: Name, Sets: routedSets(), Chains: []Chain{
		{Name: "routed", Hook: &Hook{"filter", "prerouting", priorityRaw}, Rules: []string{
			"iifname != @guarded return",
			// What the host itself sends to a group comes back to it without a
			// frame's header, and no container can send like that.
			"ether saddr != 00:00:00:00:00:00 goto routed_frame",
		}},
		{Name: "routed_frame", Rules: []string{
			"meta nfproto ipv4 goto routed4",
			"ip6 saddr :: goto routed_nobody6",
			"iifname . ip6 saddr . ether saddr @ways6 goto routed_content6",
			"iifname . ip6 saddr @shared6 goto routed_station6",
			"iifname != @autoconfigured goto routed_forged", // no other link-local address, either
			"ip6 saddr " + gateways6.String() + " goto routed_forged",
			fmt.Sprintf("ip6 saddr & %s == %s goto routed_forged", eui64Mask, eui64),
			// Backends may look for a MAC address one by one: not for what is forged in any case.
			"ip6 saddr fe80::/64 goto routed_station6",
			"ip6 saddr @slaac_pools6 ip6 saddr != @taken6 goto routed_station6",
			"goto routed_forged",
		}},
		{Name: "routed_station6", Rules: []string{
			"iifname . ether saddr != @stations goto routed_forged",
			"goto routed_content6",
		}},
		{Name: "routed_nobody6", Rules: []string{
			"icmpv6 type nd-neighbor-solicit return",
			"icmpv6 type @from_nobody return",
			"goto routed_forged",
		}},
		{Name: "routed_content6", Rules: []string{
			"meta l4proto tcp return", // what is most
			"icmpv6 type @of_routers6 goto routed_forged",
			fmt.Sprintf("udp dport %d goto routed_forged", dhcp6Client),
		}},
		{Name: "routed4", Rules: []string{
			"iifname . ip saddr . ether saddr @ways4 goto routed_content4",
			"iifname . ip saddr @shared4 goto routed_station4",
			"ip saddr 169.254.0.0/16 goto routed_station4",
			"goto routed_forged",
		}},
		{Name: "routed_station4", Rules: []string{
			"iifname . ether saddr != @stations goto routed_forged",
			"goto routed_content4",
		}},
		{Name: "routed_content4", Rules: []string{
			"meta l4proto tcp return",
			"icmp type @of_routers4 goto routed_forged",
			fmt.Sprintf("udp dport %d goto routed_forged", dhcp4Client),
		}},
		{Name: "routed_forged", Rules: l.out(DeniedForged)},
	}}
}

// routedSets are those that only the routed table asks, empty.
func routedSets() []Set {
	return []Set{
		{Name: "guarded", Key: typeLink},                 // bridges whose containers are judged
		{Name: "stations", Key: "ifname . ether_addr"},   // with the MAC addresses there
		{Name: "ways4", Key: typeWay4 + " . ether_addr"}, // and the addresses that each may have
		{Name: "ways6", Key: typeWay6 + " . ether_addr"}, //
		{Name: "shared4", Key: typeWay4},                 // addresses that all containers of a bridge may have
		{Name: "shared6", Key: typeWay6},                 //
		{Name: "autoconfigured", Key: typeLink},          // bridges of hosts that make addresses themselves
	}
}

// routed adds what the network's containers may send from, as far as the host can
// tell when a packet comes to it.
func (b builder) routed(n Network) {
	if n.AnySource {
		return
	}
	bridge := quote(n.Bridge)
	b.add("guarded", bridge)
	if len(n.Autonomous) > 0 {
		b.add("autoconfigured", bridge)
	}
	for _, a := range n.Shared {
		b.add("shared"+family(a), fmt.Sprintf("%s . %s", bridge, a))
	}
	for _, c := range n.Containers {
		b.add("stations", bridge+" . "+c.MAC)
		for _, a := range slices.Concat(c.Addresses, c.Elsewhere, []netip.Addr{linkLocal(c.MAC)}) {
			b.add("ways"+family(a), fmt.Sprintf("%s . %s . %s", bridge, a, c.MAC))
		}
	}
}
