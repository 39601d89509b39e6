package pcapfilter

import (
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// sample is a frame with a name.
type sample struct {
	name  string
	frame []byte
}

// samples are frames of every kind that filters tell apart.
func samples(t testing.TB) []sample {
	t.Helper()
	var all []sample
	macs := func(kind layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: kind}
	}
	add := func(name string, parts ...gopacket.SerializableLayer) {
		b := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, sample{name, append([]byte(nil), b.Bytes()...)})
	}
	v6 := func(next layers.IPProtocol, src, dst string) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	}
	v4 := func(next layers.IPProtocol, src, dst string) *layers.IPv4 {
		return &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: next, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()}
	}
	tcp := func(src, dst layers.TCPPort) *layers.TCP { return &layers.TCP{SrcPort: src, DstPort: dst, SYN: true} }
	udp := func(src, dst layers.UDPPort) *layers.UDP { return &layers.UDP{SrcPort: src, DstPort: dst} }
	data := gopacket.Payload("0123456789abcdef")
	e6, e4 := macs(layers.EthernetTypeIPv6), macs(layers.EthernetTypeIPv4)
	add("tcp6 80", e6, v6(layers.IPProtocolTCP, "2001:db8::5", "2001:db8:1::9"), tcp(80, 40000), data)
	add("tcp6 443", e6, v6(layers.IPProtocolTCP, "2001:db8:1::9", "2001:db8::5"), tcp(40001, 443), data)
	add("udp6 53", e6, v6(layers.IPProtocolUDP, "2001:db8::5", "2001:db8::6"), udp(40002, 53), data)
	add("tcp4 80", e4, v4(layers.IPProtocolTCP, "192.0.2.5", "198.51.100.9"), tcp(40003, 80), data)
	add("udp4 80", e4, v4(layers.IPProtocolUDP, "198.51.100.9", "192.0.2.6"), udp(80, 40004), data)
	options := v4(layers.IPProtocolTCP, "192.0.2.5", "192.0.2.6")
	options.Options, options.IHL = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}, 6
	add("tcp4 with options 80", e4, options, tcp(80, 81), data)
	later := v4(layers.IPProtocolTCP, "192.0.2.5", "192.0.2.6")
	later.FragOffset = 100
	add("tcp4 later fragment", e4, later, gopacket.Payload([]byte{0, 80, 0, 80, 0, 0, 0, 0}))
	add("icmp", e4, v4(layers.IPProtocolICMPv4, "192.0.2.5", "192.0.2.6"), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}, data)
	add("icmp6", e6, v6(layers.IPProtocolICMPv6, "fe80::1", "ff02::1:ff00:5"), gopacket.Payload([]byte{135, 0, 0, 0, 0, 0, 0, 0}), data)
	add("fragmented icmp6", e6, v6(layers.IPProtocolIPv6Fragment, "fe80::1", "2001:db8::5"), gopacket.Payload([]byte{58, 0, 0, 1, 0, 0, 0, 1, 135, 0, 0, 0}), data)
	add("fragmented tcp6 80", e6, v6(layers.IPProtocolIPv6Fragment, "2001:db8::5", "2001:db8::6"), gopacket.Payload([]byte{6, 0, 0, 1, 0, 0, 0, 1, 0, 80, 0, 80, 0, 0, 0, 0}), data)
	add("sctp6 9999", e6, v6(layers.IPProtocolSCTP, "2001:db8::5", "2001:db8::6"), gopacket.Payload([]byte{0x27, 0x0f, 0x27, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}), data)
	arp := func(src, dst string) *layers.ARP {
		return &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
			SourceHwAddress: []byte{2, 0, 0, 0, 0, 1}, SourceProtAddress: net.ParseIP(src).To4(), DstHwAddress: make([]byte, 6), DstProtAddress: net.ParseIP(dst).To4()}
	}
	add("arp for .5", macs(layers.EthernetTypeARP), arp("192.0.2.1", "192.0.2.5"))
	add("arp for .7", macs(layers.EthernetTypeARP), arp("192.0.2.1", "192.0.2.7"))
	add("another protocol", macs(0x88cc), data, data, data)
	return append(all, sample{"cut short", all[0].frame[:30]}, sample{"short of all", all[0].frame[:13]})
}

// filters are such as people write.
var filters = []string{
	"", "ip", "ip6", "arp", "tcp", "udp", "sctp", "icmp", "icmp6",
	"host 2001:db8::5", "src host 2001:db8::5", "dst host 2001:db8::5", "src 2001:db8::5", "dst 192.0.2.5", "host 192.0.2.5", "ip host 192.0.2.5", "ip6 host 2001:db8::6",
	"net 2001:db8::/64", "net 2001:db8::/32", "src net 2001:db8:1::/48", "dst net 192.0.2.0/24", "net 192.0.0.0/8", "net ::/0", "ip6 net fe80::/10", "net 2001:db8::4/126",
	"port 80", "tcp port 80", "udp port 80", "src port 80", "dst port 80", "tcp dst port 443", "sctp port 9999", "portrange 40000-40003", "udp portrange 50-60", "src portrange 79-81",
	"tcp and port 80", "tcp port 80 or tcp port 443", "not tcp", "! tcp", "not (tcp or udp)", "icmp6 or arp", "icmp6 && not host fe80::1",
	"tcp or udp and port 53", "udp and port 53 or tcp", "not tcp and ip6", "(host 2001:db8::5 or host 192.0.2.5) and not port 80", "not not ip6", "((ip6))",
	"host 2001:db8::5 and tcp and port 80 or icmp6", "not port 80", "not arp and not host 192.0.2.5",
}
