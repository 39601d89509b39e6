package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/v6net/v6net/internal/kernel/capture"
)

// packetWords are a frame in one line: who to whom, and what.
func packetWords(f capture.Frame, header int, known nameTable) string {
	var first gopacket.Decoder = layers.LayerTypeEthernet
	if header == 0 {
		first = layers.LinkTypeRaw
	}
	p := gopacket.NewPacket(f.Data, first, gopacket.DecodeOptions{NoCopy: true})
	src, dst, isIP := addressesOfPacket(p)
	if !isIP {
		return otherWords(p, f, known)
	}
	from, to := known.name(src), known.name(dst)
	ports := func(protocol string, a, b uint16, rest string) string {
		return fmt.Sprintf("%s > %s  %s%s", joinPort(from, a), joinPort(to, b), protocol, rest)
	}
	switch l := p.TransportLayer().(type) {
	case *layers.TCP:
		return ports("TCP", uint16(l.SrcPort), uint16(l.DstPort), fmt.Sprintf(" [%s] length %d", tcpFlags(l), len(l.Payload)))
	case *layers.UDP:
		rest := fmt.Sprintf(" length %d", len(l.Payload))
		if dns, ok := p.Layer(layers.LayerTypeDNS).(*layers.DNS); ok {
			rest = dnsWords(dns)
		}
		return ports("UDP", uint16(l.SrcPort), uint16(l.DstPort), rest)
	case *layers.SCTP:
		return ports("SCTP", uint16(l.SrcPort), uint16(l.DstPort), "")
	}
	what := ""
	if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		what = "ICMPv6 " + icmp6Words(p, l, known)
	} else if l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		what = "ICMP " + l.TypeCode.String()
	} else if layers := p.Layers(); len(layers) > 0 {
		what = layers[len(layers)-1].LayerType().String()
	}
	if p.ErrorLayer() != nil {
		what += " (cut short, or not valid)"
	}
	return fmt.Sprintf("%s > %s  %s, length %d", from, to, what, payloadLength(p))
}

// payloadLength is how much follows the IP header, as that says.
func payloadLength(p gopacket.Packet) int {
	switch l := p.NetworkLayer().(type) {
	case *layers.IPv6:
		return int(l.Length)
	case *layers.IPv4:
		return max(int(l.Length)-int(l.IHL)*4, 0)
	default:
		return 0
	}
}

func addressesOfPacket(p gopacket.Packet) (src, dst netip.Addr, ok bool) {
	var a, b net.IP
	switch l := p.NetworkLayer().(type) {
	case *layers.IPv6:
		a, b = l.SrcIP, l.DstIP
	case *layers.IPv4:
		a, b = l.SrcIP, l.DstIP
	default:
		return src, dst, false
	}
	src, ok1 := netip.AddrFromSlice(a)
	dst, ok2 := netip.AddrFromSlice(b)
	return src.Unmap(), dst.Unmap(), ok1 && ok2
}

// otherWords are those of a frame without IP.
func otherWords(p gopacket.Packet, f capture.Frame, known nameTable) string {
	if l, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		from, ok1 := netip.AddrFromSlice(l.SourceProtAddress)
		about, ok2 := netip.AddrFromSlice(l.DstProtAddress)
		switch {
		case ok1 && ok2 && l.Operation == layers.ARPRequest:
			return fmt.Sprintf("ARP who has %s, asks %s", known.name(about), known.name(from))
		case ok1 && l.Operation == layers.ARPReply:
			return fmt.Sprintf("ARP %s is at %s", known.name(from), net.HardwareAddr(l.SourceHwAddress))
		}
	}
	if l, ok := p.LinkLayer().(*layers.Ethernet); ok {
		return fmt.Sprintf("%s > %s  %s, length %d", l.SrcMAC, l.DstMAC, l.EthernetType, f.Length)
	}
	return fmt.Sprintf("unknown, length %d", f.Length)
}

// joinPort is a name or address with a port.
func joinPort(host string, port uint16) string { return net.JoinHostPort(host, fmt.Sprint(port)) }

// tcpFlags are letters, as tcpdump has them; a dot is ACK.
func tcpFlags(l *layers.TCP) string {
	var s string
	for _, flag := range []struct {
		set    bool
		letter string
	}{{l.SYN, "S"}, {l.FIN, "F"}, {l.RST, "R"}, {l.PSH, "P"}, {l.URG, "U"}, {l.ACK, "."}} {
		if flag.set {
			s += flag.letter
		}
	}
	return s
}

func dnsWords(l *layers.DNS) string {
	what := " DNS question"
	if l.QR {
		what = " DNS answer " + l.ResponseCode.String()
	}
	for _, q := range l.Questions {
		what += fmt.Sprintf(" %s %s", plain(string(q.Name)), q.Type)
	}
	for _, a := range l.Answers {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			what += " " + addr.String()
		}
	}
	return what
}

func icmp6Words(p gopacket.Packet, l *layers.ICMPv6, known nameTable) string {
	target := func(ip net.IP) string {
		a, _ := netip.AddrFromSlice(ip)
		return known.name(a)
	}
	switch l.TypeCode.Type() {
	case layers.ICMPv6TypeNeighborSolicitation:
		if ns, ok := p.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation); ok {
			return "neighbor solicitation of " + target(ns.TargetAddress)
		}
	case layers.ICMPv6TypeNeighborAdvertisement:
		if na, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok {
			return "neighbor advertisement of " + target(na.TargetAddress) + naFlags(na)
		}
	case layers.ICMPv6TypeRouterSolicitation:
		return "router solicitation"
	case layers.ICMPv6TypeRouterAdvertisement:
		return "router advertisement"
	case layers.ICMPv6TypeEchoRequest:
		return "echo request"
	case layers.ICMPv6TypeEchoReply:
		return "echo reply"
	}
	return l.TypeCode.String()
}

func naFlags(na *layers.ICMPv6NeighborAdvertisement) string {
	var flags []string
	for _, f := range []struct {
		set  bool
		word string
	}{{na.Router(), "router"}, {na.Solicited(), "solicited"}, {na.Override(), "override"}} {
		if f.set {
			flags = append(flags, f.word)
		}
	}
	if len(flags) == 0 {
		return ""
	}
	return " (" + strings.Join(flags, ", ") + ")"
}
