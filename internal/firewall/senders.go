package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

// Anti-spoofing (RFC 2827, RFC 7039) and RA guard (RFC 6105, RFC 7113): what comes
// in by a container's port of a bridge is judged before the bridge itself, the
// host or another container sees it. All of it is decided by name of the port, so
// that neither the number of containers nor that of networks costs a packet
// anything. What cannot be read is dropped: headers that reach beyond the first
// fragment are how an advertisement gets past a guard (RFC 7113 §2).

// senderChains judge what containers send.
func senderChains(l logging) []Chain {
	return []Chain{
		// Ports that an administrator has put on a bridge have other names. A
		// container's port that is in no set sends nothing: so there is no moment,
		// neither at its beginning nor at its end, at which it could.
		{Name: "senders_in", Hook: &Hook{"filter", "prerouting", prioritySenders}, Rules: []string{
			// What nearly all frames are, by one question.
			fmt.Sprintf("iifname %s iifname . ip6 saddr . ether saddr @sources6 goto content6", quote(spec.VethPrefix+"*")),
			fmt.Sprintf("iifname %s iifname != @unguarded goto sender", quote(spec.VethPrefix+"*")),
		}},
		{Name: "sender", Rules: []string{
			"iifname . ether saddr != @senders goto forged",
			"meta protocol ip6 goto from6",
			"meta protocol ip goto from4",
			"meta protocol arp goto claims4",
			"goto forged", // and a second VLAN tag, behind which nothing is read
		}},

		{Name: "from6", Rules: []string{
			"ip6 saddr :: goto from_nobody6",
			// Of its link-local addresses that of its MAC address alone, or a container
			// could send from as many as it likes, each of which takes a place in the
			// neighbour table that everybody on this machine shares.
			"iifname != @slaac goto forged",
			// Hosts that make addresses themselves make link-local ones, too, by RFC
			// 7217 say. But not those that are somebody's: a bridge's, or one made of
			// another's MAC address.
			"ip6 saddr " + gateways6.String() + " goto forged",
			fmt.Sprintf("ip6 saddr & %s == %s goto forged", eui64Mask, eui64),
			"ip6 saddr fe80::/64 goto content6",
			"ip6 saddr @slaac_pools6 ip6 saddr != @taken6 goto content6",
			"goto forged",
		}},
		// Before it has an address a container asks whether it may have one (RFC
		// 4862 §5.4.2), which groups it is in (RFC 3590 §4), and for a router.
		{Name: "from_nobody6", Rules: []string{
			"icmpv6 type @discovery ip6 hoplimit != 255 goto forged",
			"icmpv6 type nd-neighbor-solicit goto claims6",
			"icmpv6 type @from_nobody accept",
			"goto forged",
		}},
		{Name: "content6", Rules: []string{
			"meta l4proto tcp accept", // what is most, without asking a set
			"meta l4proto != @examined accept",
			// It has come by a router, or pretends to (RFC 4861 §7.1).
			"icmpv6 type @discovery ip6 hoplimit != 255 goto forged",
			"icmpv6 type nd-neighbor-advert goto claims6",
			"icmpv6 type != @of_routers6 accept",
			fmt.Sprintf("udp dport != %d accept", dhcp6Client),
			"frag frag-off != 0 accept", // its first fragment has been judged
			"goto forged",
		}},
		// No masks here: nft 1.0.6 of Debian 12 dies of listing a raw number with one
		// that is a prefix. The target of an advertisement, or of the solicitation that asks whether
		// anybody has the address already.
		{Name: "claims6", Rules: []string{
			"iifname . @th,64,128 @claimed6 accept",
			"iifname != @slaac goto forged",
			fmt.Sprintf("@th,64,80 == 0x%x goto forged", gateways6.Addr().AsSlice()[:10]),
			"@th,64,64 == 0xfe80000000000000 @th,152,16 == 0xfffe goto forged",
			"@th,64,64 == 0xfe80000000000000 accept",
			"@th,64,128 != @taken_claims6 accept",
			"goto forged",
		}},

		{Name: "from4", Rules: []string{
			"iifname . ip saddr @sources4 goto content4",
			"ip saddr 169.254.0.0/16 goto content4", // docker run --link-local-ip
			"goto forged",
		}},
		{Name: "content4", Rules: []string{
			"meta l4proto tcp accept",
			"meta l4proto != @examined accept",
			"icmp type != @of_routers4 accept",
			fmt.Sprintf("udp dport != %d accept", dhcp4Client),
			"ip frag-off & 0x1fff != 0 accept",
			"goto forged",
		}},
		{Name: "claims4", Rules: []string{
			"iifname . arp saddr ether != @senders goto forged",
			"arp saddr ip 0.0.0.0 goto probes4", // RFC 5227 §2.1.1
			"iifname . arp saddr ip @claimed4 accept",
			// Its neighbours' who have such an address, too (RFC 3927): the host, which would
			// keep each that asks for it in its neighbour table, has none there.
			"arp saddr ip 169.254.0.0/16 arp daddr ip 169.254.0.0/16 accept",
			// Linux asks for its gateway from the address that the packet is from,
			// which may be of another network. Whoever asks for an address that he
			// has himself announces it (RFC 5227 §2.3).
			"arp operation request iifname . arp daddr ip != @sources4 iifname . arp saddr ip @sources4 accept",
			"goto forged",
		}},
		{Name: "forged", Rules: append(l.tell(logPorts, "iifname", DeniedForged),
			"iifname @forgers drop",
			"counter drop",
		)},
		{Name: "probes4", Rules: []string{
			"iifname . arp daddr ip @claimed4 accept",
			"arp daddr ip 169.254.0.0/16 accept",
			"goto forged",
		}},
	}
}

// prioritySenders is before the chains of others in the bridge family, the
// bridge's own NAT at -300 included.
const prioritySenders = -310

// The ports of DHCP clients, where nothing but a server's or a relay's message
// goes to (RFC 8415 §7.2, RFC 2131 §4.1); a rogue server's source port may be any.
const (
	dhcp4Client = 68
	dhcp6Client = 546
)

// gateways6 has the bridges' link-local addresses, spec.LinkLocalGateway.
var gateways6 = netip.MustParsePrefix("fe80:0:0:0:1::/80")

// Link-local addresses made of a MAC address (RFC 4291 appendix A) have these
// bits. Of those made otherwise one in 65,536 has them by chance.
var (
	eui64Mask = netip.MustParseAddr("ffff:ffff:ffff:ffff:0:ff:fe00:0")
	eui64     = netip.MustParseAddr("fe80::ff:fe00:0")
)

// senderSets are those that senderChains look at, empty.
func senderSets() []Set {
	const typeSource4, typeSource6 = "ifname . ipv4_addr", "ifname . ipv6_addr"
	return []Set{
		{Name: "unguarded", Key: typeLink},                                       // ports of containers that may send what they like
		{Name: "forgers", Key: typeLink, Counter: true},                          // all others, to count by
		{Name: "senders", Key: "ifname . ether_addr"},                            // ports with their MAC addresses
		{Name: "sources4", Key: typeSource4},                                     // and with the addresses that they may send from
		{Name: "sources6", Key: typeSource6 + " . ether_addr"},                   // by MAC address at once
		{Name: "claimed4", Key: typeSource4},                                     // and with those that they may have
		{Name: "claimed6", Key: typeSource6, Expression: "iifname . @th,64,128"}, //
		{Name: "slaac", Key: typeLink},                                           // ports of hosts that make addresses themselves
		{Name: "slaac_pools6", Key: typeAddr6, Interval: true},
		{Name: "taken6", Key: typeAddr6}, // what is not theirs to make
		{Name: "taken_claims6", Key: typeAddr6, Expression: "@th,64,128"},
		{Name: "examined", Key: "inet_proto", Elements: elements("icmp", "ipv6-icmp", "udp")},
		{Name: "of_routers4", Key: "icmp_type", Elements: elements("redirect", "router-advertisement")},
		{Name: "discovery", Key: typeICMPv6, Elements: elements("nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert")},
		{Name: "of_routers6", Key: typeICMPv6, Elements: elements("nd-redirect", "nd-router-advert", "router-renumbering")},
		{Name: "from_nobody", Key: typeICMPv6, Elements: elements("mld-listener-report", "mld2-listener-report", "nd-router-solicit")},
	}
}

// senders adds what the network's containers may send from.
func (b builder) senders(n Network) {
	slaac := len(n.Autonomous) > 0
	for _, c := range n.Containers {
		port := quote(c.Port)
		if n.AnySource {
			b.add("unguarded", port)
			continue
		}
		b.add("forgers", port)
		if n.Log {
			b.add(logPorts[0], port)
		}
		b.add("senders", port+" . "+c.MAC)
		for _, a := range slices.Concat(c.Addresses, n.Shared, []netip.Addr{linkLocal(c.MAC)}) {
			b.source(port, c.MAC, a)
			b.add("claimed"+family(a), fmt.Sprintf("%s . %s", port, a))
		}
		for _, a := range c.Elsewhere {
			b.source(port, c.MAC, a)
		}
		if slaac {
			b.add("slaac", port)
		}
	}
	if !slaac {
		return
	}
	for _, a := range slices.Concat(n.Live, n.Gateways) {
		if a.Is6() {
			b.add("taken6", a.String())
			b.add("taken_claims6", a.String())
		}
	}
}

func (b builder) source(port, mac string, a netip.Addr) {
	if a.Is6() {
		b.add("sources6", fmt.Sprintf("%s . %s . %s", port, a, mac))
		return
	}
	b.add("sources4", fmt.Sprintf("%s . %s", port, a))
}

// linkLocal is the address that the kernel makes of a MAC address (RFC 4291 appendix A).
func linkLocal(mac string) netip.Addr {
	hw, _ := net.ParseMAC(mac) // Validate has seen it
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: hw[0] ^ 2, 9: hw[1], 10: hw[2], 11: 0xff, 12: 0xfe, 13: hw[3], 14: hw[4], 15: hw[5]})
}
