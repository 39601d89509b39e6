package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/v6net/v6net/internal/kernel/capture"
	"github.com/v6net/v6net/internal/spec"
)

// captured is a host with two networks and three containers, one of them on both.
func captured() spec.Status {
	addr := netip.MustParsePrefix
	ep := func(id, name, container, address string) spec.Endpoint {
		return spec.Endpoint{ID: id, Name: name, Container: container, Joined: true, Sandbox: "/run/netns/" + name, IPv6: addr(address)}
	}
	return spec.Status{Networks: []spec.NetworkStatus{
		{Network: spec.Network{ID: "aaaa1111", Name: "front", IPv6: []spec.Subnet{{Prefix: addr("2001:db8:1::/64"), Gateway: netip.MustParseAddr("2001:db8:1::1")}}},
			Bridge: "v6naaaa", Endpoints: []spec.Endpoint{ep("eeee1111", "web", "cccc1111", "2001:db8:1::5/64"), ep("eeee2222", "db", "cccc2222", "2001:db8:1::6/64")}},
		{Network: spec.Network{ID: "bbbb2222", Name: "back", Options: spec.Options{Mode: spec.ModeMacvlan}, IPv6: []spec.Subnet{{Prefix: addr("2001:db8:2::/64")}}},
			Parent: "eth0", Endpoints: []spec.Endpoint{ep("eeee3333", "web", "cccc1111", "2001:db8:2::5/64"), {ID: "eeee4444", Name: "gone", IPv6: addr("2001:db8:2::9/64")}}},
		{Network: spec.Network{ID: "dddd3333", Name: "db"}, Bridge: "v6ndddd"},
		{Network: spec.Network{ID: "dddd4444", Name: "ffff"}, Bridge: "v6nffff", Endpoints: []spec.Endpoint{
			ep("ffff1111", "cafe", "cccc3333", "2001:db8:3::5/64"), ep("ffff2222", "other", "cafe0000", "2001:db8:3::6/64")}},
	}}
}

func TestFindSpots(t *testing.T) {
	for _, tc := range []struct {
		what, only, want string // of words, or of the error
		status           int
	}{
		{"web", "", "container web on network front; container web on network back", 0},
		{"web", "back", "container web on network back", 0},
		{"cccc2222", "", "container db on network front", 0},
		{"eeee1", "", "container web on network front", 0},
		{"front", "", "bridge of network front", 0},
		{"bbbb", "", "parent of network back", 0},
		{"network:db", "", "bridge of network db", 0},
		{"container:db", "", "container db on network front", 0},
		{"db", "", `a network and a container are called "db": say network:db or container:db`, exitUsage},
		{"eeee", "", `"eeee" is the name of more than one container, or the beginning of more than one's ID`, exitUsage},
		{"cafe", "", "container cafe on network ffff", 0}, // and not that with such an ID
		{"cafe0", "", "container other on network ffff", 0},
		{"ffff", "", "bridge of network ffff", 0}, // and no container with such an ID
		{"web", "typo", `no network of v6net's is called "typo", nor has an ID that begins so (see them with ` + "`v6net status`)" + `; container web is on front, back`, exitNotFound},
		{"web", "db", "container web is not on network db, but on front, back", exitNotFound},
		{"front", "back", "--network is for a container", exitUsage},
		{"gone", "", "container eeee4444 gone has left network bbbb2222 back", exitNotFound},
		{"eee", "", "no network and no container", exitNotFound},
		{"", "", "no network and no container", exitNotFound},
	} {
		spots, err := findSpots(captured(), tc.what, tc.only)
		if tc.status != 0 {
			if err == nil || !strings.Contains(err.Error(), tc.want) || exitStatus(err) != tc.status {
				t.Errorf("%q: %v (status %d), want %q (status %d)", tc.what, err, exitStatus(err), tc.want, tc.status)
			}
			continue
		}
		var got []string
		for _, s := range spots {
			got = append(got, s.words)
		}
		if err != nil || strings.Join(got, "; ") != tc.want {
			t.Errorf("%q: %q, %v, want %q", tc.what, got, err, tc.want)
		}
	}
	spots, err := findSpots(captured(), "db", "front")
	if err == nil {
		t.Errorf("ambiguous, and answered with %+v", spots)
	}
	if spots, _ = findSpots(captured(), "back", ""); spots[0].source.Link != "eth0" || !spots[0].source.Promiscuous {
		t.Errorf("without a bridge %+v, want the parent", spots[0].source)
	}
}

func TestAddressNames(t *testing.T) {
	status := captured()
	status.Networks[2].IPv6 = []spec.Subnet{{Prefix: netip.MustParsePrefix("2001:db8:a::/64"), Gateway: netip.MustParseAddr("2001:db8:a::1"),
		Lent: &spec.Lent{Prefixes: []spec.LentPrefix{{Prefix: netip.MustParsePrefix("2001:db8:b::/64")}}}}}
	known := addressNames(status)
	if got := known.name(netip.MustParseAddr("2001:db8:b::1")); got != "db.gateway" {
		t.Errorf("the gateway of a network that was renumbered is called %q", got)
	}
	if got := known.of("web"); len(got) != 2 || known.name(got[1]) != "web" {
		t.Errorf("web has %v", got)
	}
	if got := known.name(netip.MustParseAddr("2001:db8:1::1")); got != "front.gateway" {
		t.Errorf("the gateway is called %q", got)
	}
	if got := known.name(netip.MustParseAddr("2001:db8:9::1")); got != "2001:db8:9::1" {
		t.Errorf("a stranger is called %q", got)
	}
}

// frame is an Ethernet frame.
func frame(t *testing.T, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func ethernet(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: kind}
}

func ip6(next layers.IPProtocol, src, dst string) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: next, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
}

func ip4(next layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: next, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{192, 0, 2, 2}}
}

func arp(operation uint16) *layers.ARP {
	return &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
		SourceHwAddress: []byte{2, 0, 0, 0, 0, 1}, SourceProtAddress: []byte{192, 0, 2, 1}, DstHwAddress: make([]byte, 6), DstProtAddress: []byte{192, 0, 2, 2}}
}

func TestPacketWords(t *testing.T) {
	known := addressNames(captured())
	e := ethernet(layers.EthernetTypeIPv6)
	solicitation := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr("2001:db8:1::5").AsSlice()...)
	advertisement := append([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, netip.MustParseAddr("2001:db8:1::5").AsSlice()...)
	question := frame(t, &layers.DNS{ID: 1, RD: true, Questions: []layers.DNSQuestion{{Name: []byte("example.org"), Type: layers.DNSTypeAAAA, Class: layers.DNSClassIN}}})
	answer := frame(t, &layers.DNS{ID: 1, QR: true, Questions: []layers.DNSQuestion{{Name: []byte("example.org"), Type: layers.DNSTypeAAAA, Class: layers.DNSClassIN}},
		Answers: []layers.DNSResourceRecord{{Name: []byte("example.org"), Type: layers.DNSTypeAAAA, Class: layers.DNSClassIN, IP: net.ParseIP("2001:db8:9::1")}}})
	tagged := ethernet(layers.EthernetTypeDot1Q)
	for want, b := range map[string][]byte{
		"[2001:db8:9::1]:40000 > web:443  TCP [S] length 0":                                        frame(t, e, ip6(layers.IPProtocolTCP, "2001:db8:9::1", "2001:db8:1::5"), &layers.TCP{SrcPort: 40000, DstPort: 443, SYN: true}),
		"web:443 > db:5432  TCP [P.] length 3":                                                     frame(t, e, ip6(layers.IPProtocolTCP, "2001:db8:1::5", "2001:db8:1::6"), &layers.TCP{SrcPort: 443, DstPort: 5432, PSH: true, ACK: true}, gopacket.Payload("abc")),
		"web:40000 > front.gateway:53  UDP DNS question example.org AAAA":                          frame(t, e, ip6(layers.IPProtocolUDP, "2001:db8:1::5", "2001:db8:1::1"), &layers.UDP{SrcPort: 40000, DstPort: 53}, gopacket.Payload(question)),
		"front.gateway:53 > web:40000  UDP DNS answer Success example.org AAAA 2001:db8:9::1":      frame(t, e, ip6(layers.IPProtocolUDP, "2001:db8:1::1", "2001:db8:1::5"), &layers.UDP{SrcPort: 53, DstPort: 40000}, gopacket.Payload(answer)),
		"web:1 > db:2  UDP length 2":                                                               frame(t, e, ip6(layers.IPProtocolUDP, "2001:db8:1::5", "2001:db8:1::6"), &layers.UDP{SrcPort: 1, DstPort: 2}, gopacket.Payload("ab")),
		"fe80::1 > ff02::1:ff00:5  ICMPv6 neighbor solicitation of web, length 24":                 frame(t, e, ip6(layers.IPProtocolICMPv6, "fe80::1", "ff02::1:ff00:5"), gopacket.Payload(solicitation)),
		"fe80::2 > fe80::1  ICMPv6 neighbor advertisement of web (solicited, override), length 24": frame(t, e, ip6(layers.IPProtocolICMPv6, "fe80::2", "fe80::1"), gopacket.Payload(advertisement)),
		"web > db  ICMPv6 destination unreachable (code 4), length 8":                              frame(t, e, ip6(layers.IPProtocolICMPv6, "2001:db8:1::5", "2001:db8:1::6"), gopacket.Payload{1, 4, 0, 0, 0, 0, 0, 0}),
		"web > db  ICMPv6 (a fragment, cut short, or not valid), length 4":                         frame(t, e, ip6(layers.IPProtocolICMPv6, "2001:db8:1::5", "2001:db8:1::6"), gopacket.Payload{1, 4, 0, 0}),
		"web > db  ICMPv6 (a fragment, cut short, or not valid), length 12":                        frame(t, e, ip6(layers.IPProtocolIPv6Fragment, "2001:db8:1::5", "2001:db8:1::6"), gopacket.Payload{58, 0, 0, 8, 0, 0, 0, 1, 135, 0, 0, 0}),
		"web > db  protocol 50, length 8":                                                          frame(t, e, ip6(layers.IPProtocolESP, "2001:db8:1::5", "2001:db8:1::6"), gopacket.Payload{1, 4, 0, 0, 0, 0, 0, 0}),
		"web:9999 > db:10000  SCTP":                                                                frame(t, e, ip6(layers.IPProtocolSCTP, "2001:db8:1::5", "2001:db8:1::6"), gopacket.Payload{0x27, 0x0f, 0x27, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}),
		"web:80 > db:81  TCP [R] length 0":                                                         frame(t, tagged, &layers.Dot1Q{VLANIdentifier: 7, Type: layers.EthernetTypeIPv6}, ip6(layers.IPProtocolTCP, "2001:db8:1::5", "2001:db8:1::6"), &layers.TCP{SrcPort: 80, DstPort: 81, RST: true}),
		"192.0.2.1 > 192.0.2.2  ICMP echo request, length 8":                                       frame(t, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}),
		"ARP who has 192.0.2.2, asks 192.0.2.1":                                                    frame(t, ethernet(layers.EthernetTypeARP), arp(layers.ARPRequest)),
		"ARP 192.0.2.1 is at 02:00:00:00:00:01":                                                    frame(t, ethernet(layers.EthernetTypeARP), arp(layers.ARPReply)),
		"02:00:00:00:00:01 > 02:00:00:00:00:02  LLDP, length 60":                                   frame(t, ethernet(layers.EthernetTypeLinkLayerDiscovery), gopacket.Payload(strings.Repeat("x", 46))),
	} {
		if diff := cmp.Diff(want, packetWords(capture.Frame{Data: b, Length: len(b)}, 14, known)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	for _, whole := range [][]byte{
		frame(t, e, ip6(layers.IPProtocolTCP, "2001:db8:9::1", "2001:db8:1::5"), &layers.TCP{SrcPort: 40000, DstPort: 443, SYN: true}),
		frame(t, e, ip6(layers.IPProtocolUDP, "2001:db8:1::1", "2001:db8:1::5"), &layers.UDP{SrcPort: 53, DstPort: 40000}, gopacket.Payload(answer)),
	} {
		for n := range whole { // whatever is cut off, there is something to say
			if words := packetWords(capture.Frame{Data: whole[:n], Length: len(whole)}, 14, known); words == "" {
				t.Errorf("nothing is said of %d bytes", n)
			}
			endpointsWords(capture.Frame{Data: whole[:n]}, 14, known)
		}
	}
}

// Whatever a link carries, there is something to say, and nothing that breaks the line.
func FuzzPacketWords(f *testing.F) {
	known := addressNames(captured())
	for _, b := range []string{"", "\x60", "\x45", string(append([]byte{0x60, 0, 0, 0, 0, 24, 58, 255}, make([]byte, 56)...)), string(append([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17}, make([]byte, 20)...))} {
		f.Add([]byte(b), false)
		f.Add([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x86\xdd"+b), true)
		f.Add([]byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x81\x00\x00\x01\x08\x00"+b), true)
	}
	// An answer of a name server whose last record is cut off.
	f.Add([]byte("\x45\x00\x00\x3e\x00\x00\x00\x00\x40\x11\x00\x00\xc0\x00\x02\x01\xc0\x00\x02\x02\x00\x35\x01\x01\x00\x2a\x00\x00"+
		"\x00\x01\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x1c\x00\x01\xc0\x0c\x00\x1c\x00\x01\x00\x00\x00\x01\x00\x10\x01\x02\x03"), false)
	f.Fuzz(func(t *testing.T, b []byte, isEthernet bool) {
		header := 0
		if isEthernet {
			header = 14
		}
		frame := capture.Frame{Data: b, Length: len(b)}
		if words := printable(packetWords(frame, header, known)); words == "" || strings.ContainsAny(words, "\n\x1b") {
			t.Errorf("of %x is said %q", b, words)
		}
		endpointsWords(frame, header, known)
	})
}

// What is written another program reads: links, names, comments, statistics.
func TestCaptureFile(t *testing.T) {
	known := addressNames(captured())
	spots := []spot{{words: "container web on network front", socket: &capture.Socket{Link: "eth0", Header: 14}}, {words: "container web on network back", socket: &capture.Socket{Link: "eth1", Header: 0}}}
	var b bytes.Buffer
	ended := false
	w, err := newFileWriter(&b, func() error { ended = true; return nil }, spots, known, "tcp port 80", 2048)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 123_456_789)
	first := frame(t, ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolTCP, "2001:db8:9::1", "2001:db8:1::5"), &layers.TCP{DstPort: 443, SYN: true})
	if err := w.put(0, capture.Frame{Time: at, Data: first, Length: 2000}); err != nil {
		t.Fatal(err)
	}
	if err := w.put(1, capture.Frame{Time: at, Data: first[14:], Length: len(first) - 14, Outgoing: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.end([]uint64{7, 1}, []uint64{3, 0}); err != nil || !ended {
		t.Fatalf("end: %v, %v", err, ended)
	}
	r, err := pcapgo.NewNgReader(&b, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	data, info, err := r.ReadPacketData()
	if err != nil || !bytes.Equal(data, first) || info.Length != 2000 || !info.Timestamp.Equal(at) {
		t.Errorf("the first packet: %d bytes of %d at %v, %v", len(data), info.Length, info.Timestamp, err)
	}
	if _, info, err = r.ReadPacketData(); err != nil || info.InterfaceIndex != 1 {
		t.Errorf("the second packet: %+v, %v", info, err)
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("behind them: %v", err)
	}
	for i, want := range spots {
		got, err := r.Interface(i)
		if err != nil || got.Name != want.socket.Link || got.Description != want.words || got.Comment != want.words || got.Filter != "tcp port 80" || got.SnapLength != 2048 {
			t.Errorf("interface %d: %+v, %v", i, got, err)
		}
	}
	if got, err := r.Interface(0); err != nil || got.Statistics.PacketsReceived != 7 || got.Statistics.PacketsDropped != 3 {
		t.Errorf("statistics %+v, %v", got.Statistics, err)
	}
}
