package main

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/capture"
)

// What follows an Ethernet header that is said by name (IEEE 802, as IANA lists them).
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherVLAN = 0x8100
	etherIPv6 = 0x86dd
)

var etherNames = map[uint16]string{
	etherIPv4: "IPv4", etherARP: "ARP", etherIPv6: "IPv6", 0x8035: "RARP", 0x8863: "PPPoE", 0x8864: "PPPoE", 0x888e: "EAPOL", 0x88cc: "LLDP",
}

// packetWords are a frame in one line: who to whom, and what.
func packetWords(f capture.Frame, header int, known nameTable) string {
	ether, ip := uint16(0), f.Data
	if header > 0 {
		if len(f.Data) < header {
			return fmt.Sprintf("unknown, length %d", f.Length)
		}
		ether, ip = binary.BigEndian.Uint16(f.Data[header-2:]), f.Data[header:]
		if ether == etherVLAN && len(ip) >= 4 {
			ether, ip = binary.BigEndian.Uint16(ip[2:]), ip[4:]
		}
	}
	src, dst, isIP := endpoints(ip, 0)
	if !isIP || header > 0 && ether != etherIPv4 && ether != etherIPv6 {
		return otherWords(f, header, ether, ip, known)
	}
	from, to := known.name(src), known.name(dst)
	protocol, rest := firewall.Payload(ip)
	length := packetLength(ip) - (len(ip) - len(rest)) // of what follows the headers, cut off or not
	ports := func(protocol, said string) string {
		a, b := binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		return fmt.Sprintf("%s > %s  %s%s", joinPort(from, a), joinPort(to, b), protocol, said)
	}
	var what string
	var whole bool
	switch {
	case protocol == firewall.TCP && len(rest) >= 20:
		return ports("TCP", fmt.Sprintf(" [%s] length %d", tcpFlags(rest[13]), max(length-int(rest[12]>>4)*4, 0)))
	case protocol == firewall.UDP && len(rest) >= 8:
		return ports("UDP", cmp.Or(dnsWords(rest), fmt.Sprintf(" length %d", max(length-8, 0))))
	case protocol == firewall.SCTP && len(rest) >= 12:
		return ports("SCTP", "")
	case protocol == firewall.ICMPv6:
		what, whole = icmp6Words(rest, known)
		what = "ICMPv6" + what
	case protocol == firewall.ICMP:
		what, whole = icmpWords(rest, icmpNames)
		what = "ICMP" + what
	default:
		what, whole = cmp.Or(protocolNames[protocol], fmt.Sprintf("protocol %d", protocol)), rest != nil && protocolNames[protocol] == ""
	}
	if !whole {
		what += " (a fragment, cut short, or not valid)"
	}
	return fmt.Sprintf("%s > %s  %s, length %d", from, to, what, packetLength(ip)-headerLength(ip))
}

// packetLength is that of an IP packet, and headerLength that of its own header, as it says.
func packetLength(ip []byte) int {
	if ip[0]>>4 == 6 {
		return headerLength(ip) + int(binary.BigEndian.Uint16(ip[4:]))
	}
	return max(int(binary.BigEndian.Uint16(ip[2:])), headerLength(ip))
}

func headerLength(ip []byte) int {
	if ip[0]>>4 == 6 {
		return 40
	}
	return int(ip[0]&0xf) * 4
}

// otherWords are those of a frame without IP.
func otherWords(f capture.Frame, header int, ether uint16, b []byte, known nameTable) string {
	if ether == etherARP && len(b) >= 28 { // RFC 826 for Ethernet and IPv4
		from, about := netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:]))
		switch binary.BigEndian.Uint16(b[6:]) {
		case 1:
			return fmt.Sprintf("ARP who has %s, asks %s", known.name(about), known.name(from))
		case 2:
			return fmt.Sprintf("ARP %s is at %s", known.name(from), net.HardwareAddr(b[8:14]))
		}
	}
	if header < 14 {
		return fmt.Sprintf("unknown, length %d", f.Length)
	}
	kind := cmp.Or(etherNames[ether], fmt.Sprintf("ethertype %#04x", ether))
	if ether < 0x600 { // a length (IEEE 802.3)
		kind = "LLC"
	}
	return fmt.Sprintf("%s > %s  %s, length %d", net.HardwareAddr(f.Data[6:12]), net.HardwareAddr(f.Data[:6]), kind, f.Length)
}

// joinPort is a name or address with a port.
func joinPort(host string, port uint16) string { return net.JoinHostPort(host, fmt.Sprint(port)) }

// tcpFlags are letters, as tcpdump has them; a dot is ACK.
func tcpFlags(flags byte) string {
	var s string
	for _, flag := range []struct {
		bit    byte
		letter string
	}{{2, "S"}, {1, "F"}, {4, "R"}, {8, "P"}, {32, "U"}, {16, "."}} {
		if flags&flag.bit != 0 {
			s += flag.letter
		}
	}
	return s
}

// dnsWords are those of a UDP datagram to or from port 53; empty: it is no such one.
func dnsWords(udp []byte) string {
	const port = 53
	var p dnsmessage.Parser
	header, err := p.Start(udp[8:])
	if err != nil || binary.BigEndian.Uint16(udp) != port && binary.BigEndian.Uint16(udp[2:]) != port {
		return ""
	}
	questions, err := p.AllQuestions()
	if err != nil {
		return ""
	}
	what := " DNS question"
	if header.Response {
		what = " DNS answer " + strings.TrimPrefix(header.RCode.String(), "RCode")
	}
	for _, q := range questions {
		what += fmt.Sprintf(" %s %s", plain(strings.TrimSuffix(q.Name.String(), ".")), strings.TrimPrefix(q.Type.String(), "Type"))
	}
	for {
		answer, err := p.AnswerHeader()
		if err != nil {
			return what
		}
		switch answer.Type {
		case dnsmessage.TypeAAAA:
			r, err := p.AAAAResource()
			if err != nil {
				return what
			}
			what += " " + netip.AddrFrom16(r.AAAA).String()
		case dnsmessage.TypeA:
			r, err := p.AResource()
			if err != nil {
				return what
			}
			what += " " + netip.AddrFrom4(r.A).String()
		default:
			if err := p.SkipAnswer(); err != nil {
				return what
			}
		}
	}
}

// protocolNames are those of people, which [firewall.ReadHeaders] has for programs.
var protocolNames = map[byte]string{firewall.ICMP: "ICMP", firewall.TCP: "TCP", firewall.UDP: "UDP", firewall.ICMPv6: "ICMPv6", firewall.SCTP: "SCTP"}

// The types of ICMP (RFC 792) and ICMPv6 (RFC 4443, RFC 4861, RFC 3810).
var (
	icmpNames = map[byte]string{
		0: "echo reply", 3: "destination unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded", 12: "parameter problem",
	}
	icmp6Names = map[byte]string{
		1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem", 128: "echo request", 129: "echo reply",
		130: "multicast listener query", 131: "multicast listener report", 132: "multicast listener done", 133: "router solicitation",
		134: "router advertisement", 135: "neighbor solicitation", 136: "neighbor advertisement", 137: "redirect", 143: "multicast listener report",
	}
)

// icmpWords are a space and the type, with the code where it is not the first; whole: there is
// enough to say it.
func icmpWords(b []byte, names map[byte]string) (what string, whole bool) {
	if len(b) < 8 {
		return "", false
	}
	what = " " + cmp.Or(names[b[0]], fmt.Sprintf("type %d", b[0]))
	if b[1] != 0 {
		what += fmt.Sprintf(" (code %d)", b[1])
	}
	return what, true
}

func icmp6Words(b []byte, known nameTable) (what string, whole bool) {
	const solicitation, advertisement = 135, 136
	what, whole = icmpWords(b, icmp6Names)
	if !whole || b[0] != solicitation && b[0] != advertisement {
		return what, whole
	}
	if len(b) < 24 {
		return what, false
	}
	what += " of " + known.name(netip.AddrFrom16([16]byte(b[8:24])))
	if b[0] == advertisement {
		what += advertisementFlags(b[4])
	}
	return what, true
}

// advertisementFlags are those of a neighbor advertisement (RFC 4861 §4.4).
func advertisementFlags(b byte) string {
	var flags []string
	for _, f := range []struct {
		bit  byte
		word string
	}{{0x80, "router"}, {0x40, "solicited"}, {0x20, "override"}} {
		if b&f.bit != 0 {
			flags = append(flags, f.word)
		}
	}
	if len(flags) == 0 {
		return ""
	}
	return " (" + strings.Join(flags, ", ") + ")"
}
