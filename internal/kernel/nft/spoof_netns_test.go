//go:build netns

package nft

import (
	"encoding/hex"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/raguard"
	"github.com/v6net/v6net/internal/testnet"
)

// makeFrames has scapy write the frames of each expression in a line of its own.
// Names are those of web2, who sends, and of his neighbour web3.
const makeFrames = `
import logging
logging.getLogger("scapy").setLevel(logging.CRITICAL)
from scapy.all import *
from scapy.contrib.igmp import IGMP
import sys
me, other, router = "02:00:00:00:01:02", "02:00:00:00:01:03", "02:00:00:00:01:01"
my6, other6, gateway6, shared6, nobody6 = "2001:db8:1::2", "2001:db8:1::3", "2001:db8:1::1", "2001:db8:1::99", "2001:db8:1::77"
mylocal, otherlocal, gatewaylocal, randomlocal = "fe80::ff:fe00:102", "fe80::ff:fe00:103", "fe80::1:aaaa:aaaa:aaaa", "fe80::1234:5678:9abc:def0"
my4, other4, gateway4, shared4 = "172.18.1.2", "172.18.1.3", "172.18.1.1", "172.18.1.99"
elsewhere6, elsewhere4 = "2001:db8:7::9", "172.18.7.9"
all_nodes = "33:33:00:00:00:01"
def frame6(src=my6, dst="ff02::1", mac=me, **more): return Ether(src=mac, dst=all_nodes)/IPv6(src=src, dst=dst, hlim=255, **more)
def frame4(src=my4, dst="172.18.1.255", mac=me, **more): return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")/IP(src=src, dst=dst, **more)
def arp(**more): return Ether(src=me, dst="ff:ff:ff:ff:ff:ff")/ARP(**{**dict(hwsrc=me, psrc=my4, pdst=other4), **more})
def na(target, src=my6, mac=me): return frame6(src, mac=mac)/ICMPv6ND_NA(tgt=target, S=0, O=1)/ICMPv6NDOptDstLLAddr(lladdr=me)
def dad(target): return frame6("::", "ff02::1:ff00:3")/ICMPv6ND_NS(tgt=target)
ra = ICMPv6ND_RA(routerlifetime=1800)/ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64)
def split(packet, size=1280):
	"the packet in fragments, whose frames have its Ethernet header"
	ether = packet.copy(); ether.remove_payload()
	return [ether/p for p in fragment6(IPv6(raw(packet[IPv6])), size)]
long_options = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0"*200)]*8)
for line in sys.argv[1:]:
	frames = eval(line)
	if not isinstance(frames, list): frames = [frames]
	print(*[raw(f).hex() for f in frames])
`

// forgeries say what a container may send, in the words of makeFrames.
var forgeries = []struct {
	what, frame string
	passes      bool
}{
	{"UDP", `frame6()/UDP(dport=7)`, true},
	{"TCP", `frame6(dst=other6)/TCP(dport=80)`, true},
	{"ESP", `frame6(nh=50)/Raw(b"12345678")`, true},
	{"nothing", `frame6(nh=59)`, true},
	{"from the link-local address of its MAC", `frame6(mylocal)/UDP(dport=5353)`, true},
	{"from an auxiliary address", `frame6(shared6)/UDP(dport=7)`, true},
	{"from its address on another network", `frame6(elsewhere6)/TCP(sport=80, flags="SA")`, true},
	{"echo request", `frame6()/ICMPv6EchoRequest()`, true},
	{"packet too big", `frame6()/ICMPv6PacketTooBig(mtu=1280)/IPv6(src=other6, dst=my6)/UDP()`, true},
	{"with extension headers", `frame6()/IPv6ExtHdrHopByHop()/IPv6ExtHdrDestOpt()/UDP(dport=7)`, true},
	{"in fragments", `split(frame6()/IPv6ExtHdrFragment()/UDP(dport=7)/Raw(b"x"*3000))`, true},
	{"echo request in fragments", `split(frame6()/IPv6ExtHdrFragment()/ICMPv6EchoRequest(data=b"x"*3000))`, true},
	{"router solicitation", `frame6(mylocal, "ff02::2")/ICMPv6ND_RS()`, true},
	{"router solicitation from nobody", `frame6("::", "ff02::2")/ICMPv6ND_RS()`, true},
	{"multicast report from nobody", `frame6("::", "ff02::16")/IPv6ExtHdrHopByHop(options=[RouterAlert()])/ICMPv6MLReport2(records=[ICMPv6MLDMultAddrRec(dst="ff02::1:ff00:2")])`, true},
	{"neighbor solicitation", `frame6()/ICMPv6ND_NS(tgt=other6)/ICMPv6NDOptSrcLLAddr(lladdr=me)`, true},
	{"neighbor advertisement", `na(my6)`, true},
	{"neighbor advertisement of its link-local address", `na(mylocal, mylocal)`, true},
	{"neighbor advertisement of an auxiliary address", `na(shared6)`, true},
	{"duplicate address detection", `dad(my6)`, true},
	{"duplicate address detection, link-local", `dad(mylocal)`, true},
	{"DHCPv6 client", `frame6(mylocal, "ff02::1:2")/UDP(sport=546, dport=547)/DHCP6_Solicit()`, true},
	{"DHCPv6 relay", `frame6()/UDP(sport=547, dport=547)/DHCP6_RelayForward()`, true},

	{"from another's MAC address", `frame6(mac=other)/UDP(dport=7)`, false},
	{"from another's addresses", `frame6(other6, mac=other)/UDP(dport=7)`, false},
	{"from another's address", `frame6(other6)/UDP(dport=7)`, false},
	{"from an auxiliary address and a MAC address that nobody has", `frame6(shared6, mac="02:00:00:00:01:77")/UDP(dport=7)`, false},
	{"from an address that nobody has", `frame6(nobody6)/UDP(dport=7)`, false},
	{"from the gateway's address", `frame6(gateway6)/UDP(dport=7)`, false},
	{"from far away", `frame6("2001:db8:ffff::1")/UDP(dport=7)`, false},
	{"from the gateway's link-local address", `frame6(gatewaylocal)/UDP(dport=7)`, false},
	{"from a link-local address that it has made up", `frame6(randomlocal)/UDP(dport=5353)`, false},
	{"neighbor solicitation from a link-local address that it has made up", `frame6(randomlocal)/ICMPv6ND_NS(tgt=gateway6)/ICMPv6NDOptSrcLLAddr(lladdr=me)`, false},
	{"neighbor advertisement of a link-local address that it has made up", `na(randomlocal)`, false},
	{"duplicate address detection of a link-local address that it has made up", `dad(randomlocal)`, false},
	{"from another's link-local address", `frame6(otherlocal)/UDP(dport=7)`, false},
	{"from a mapped address", `frame6("::ffff:172.18.1.2")/UDP(dport=7)`, false},
	{"from loopback", `frame6("::1")/UDP(dport=7)`, false},
	{"from nobody", `frame6("::")/UDP(dport=7)`, false},
	{"echo request from nobody", `frame6("::")/ICMPv6EchoRequest()`, false},
	{"in fragments, from another's address", `split(frame6(other6)/IPv6ExtHdrFragment()/UDP(dport=7)/Raw(b"x"*3000))`, false},
	{"behind a VLAN tag, from another's address", `Ether(src=me, dst=all_nodes)/Dot1Q(vlan=0)/IPv6(src=other6, dst="ff02::1")/UDP(dport=7)`, false},

	{"router advertisement", `frame6(mylocal)/ra`, false},
	{"router advertisement from a global address", `frame6()/ra`, false},
	{"router advertisement from the gateway", `frame6(gatewaylocal)/ra`, false},
	{"router advertisement behind options", `frame6(mylocal)/IPv6ExtHdrHopByHop()/IPv6ExtHdrDestOpt()/ra`, false},
	{"router advertisement in one fragment", `frame6(mylocal)/IPv6ExtHdrFragment(nh=58)/ra`, false},
	{"router advertisement in the second fragment", `split(frame6(mylocal)/IPv6ExtHdrFragment()/long_options/ra)`, false},
	{"router advertisement behind a VLAN tag", `Ether(src=me, dst=all_nodes)/Dot1Q(vlan=0)/IPv6(src=mylocal, dst="ff02::1", hlim=255)/ra`, false},
	{"router advertisement behind two VLAN tags", `Ether(src=me, dst=all_nodes)/Dot1AD(vlan=0)/Dot1Q(vlan=0)/IPv6(src=mylocal, dst="ff02::1", hlim=255)/ra`, false},
	{"router advertisement by PPPoE", `Ether(src=me, dst=all_nodes)/PPPoE()/PPP(proto=0x57)/IPv6(src=mylocal, dst="ff02::1", hlim=255)/ra`, false},
	{"redirect", `frame6(mylocal)/ICMPv6ND_Redirect(tgt=mylocal, dst="2001:db8:ffff::1")`, false},
	{"router renumbering", `frame6(mylocal)/ICMPv6Unknown(type=138)`, false},
	{"DHCPv6 server", `frame6(mylocal)/UDP(sport=547, dport=546)/DHCP6_Reply()`, false},
	{"DHCPv6 server at another port", `frame6(mylocal)/UDP(sport=5000, dport=546)/DHCP6_Advertise()`, false},
	{"DHCPv6 server in the second fragment", `split(frame6(mylocal)/IPv6ExtHdrFragment()/long_options/UDP(sport=547, dport=546)/DHCP6_Reply())`, false},
	{"neighbor advertisement of another's address", `na(other6)`, false},
	{"neighbor advertisement of another's address, from there", `na(other6, other6)`, false},
	{"neighbor advertisement of the gateway", `na(gateway6)`, false},
	{"neighbor advertisement of the gateway's link-local address", `na(gatewaylocal, mylocal)`, false},
	{"neighbor advertisement of another's link-local address", `na(otherlocal, mylocal)`, false},
	{"neighbor advertisement of its address on another network", `na(elsewhere6)`, false},
	{"neighbor advertisement of its address on another network, from there", `na(elsewhere6, elsewhere6)`, false},
	{"duplicate address detection of its address on another network", `dad(elsewhere6)`, false},
	{"neighbor advertisement of an address that nobody has", `na(nobody6)`, false},
	{"neighbor advertisement of another's address in one fragment", `frame6()/IPv6ExtHdrFragment(nh=58)/ICMPv6ND_NA(tgt=other6)`, false},
	{"neighbor advertisement that ends early", `frame6(nh=58)/Raw(raw(ICMPv6ND_NA(tgt=other6))[:12])`, false},
	{"duplicate address detection of another's address", `dad(other6)`, false},
	{"duplicate address detection of another's link-local address", `dad(otherlocal)`, false},
	{"duplicate address detection of the gateway's link-local address", `dad(gatewaylocal)`, false},
	{"neighbor advertisement that has been routed", `Ether(src=me, dst=all_nodes)/IPv6(src=my6, dst="ff02::1", hlim=254)/ICMPv6ND_NA(tgt=my6)`, false},
	{"neighbor solicitation that has been routed", `Ether(src=me, dst=all_nodes)/IPv6(src=my6, dst="ff02::1", hlim=64)/ICMPv6ND_NS(tgt=other6)`, false},
	{"duplicate address detection that has been routed", `Ether(src=me, dst=all_nodes)/IPv6(src="::", dst="ff02::1", hlim=254)/ICMPv6ND_NS(tgt=my6)`, false},
	{"extension headers without end", `frame6(nh=0)/Raw(bytes([60, 0])+b"\0"*6)`, false},

	{"IPv4", `frame4()/UDP(dport=7)`, true},
	{"IPv4 from an auxiliary address", `frame4(shared4)/UDP(dport=7)`, true},
	{"IPv4 from a link-local address", `frame4("169.254.7.7")/UDP(dport=7)`, true},
	{"IPv4 from its address on another network", `frame4(elsewhere4)/TCP(sport=80, flags="SA")`, true},
	{"ARP request from its address on another network", `arp(psrc=elsewhere4, pdst=gateway4)`, true},
	{"IPv4 echo request", `frame4()/ICMP()`, true},
	{"IPv4 in fragments", `fragment(frame4()/UDP(dport=7)/Raw(b"x"*3000), 1400)`, true},
	{"IPv4 with options", `frame4(options=[IPOption_NOP()]*4)/UDP(dport=7)`, true},
	{"IGMP", `frame4(dst="224.0.0.22")/IGMP(type=0x16, gaddr="239.1.1.1")`, true},
	{"DHCP client with an address", `frame4()/UDP(sport=68, dport=67)/BOOTP()`, true},
	{"ARP request", `arp()`, true},
	{"ARP announcement", `arp(pdst=my4)`, true},
	{"ARP probe", `arp(psrc="0.0.0.0", pdst=my4)`, true},
	{"ARP reply", `arp(op=2, hwdst=other)`, true},
	{"ARP announcement of an auxiliary address", `arp(psrc=shared4, pdst=shared4)`, true},
	{"ARP request between link-local addresses", `arp(psrc="169.254.7.7", pdst="169.254.7.8")`, true},
	{"ARP probe of a link-local address", `arp(psrc="0.0.0.0", pdst="169.254.7.7")`, true},

	{"IPv4 from another's address", `frame4(other4)/UDP(dport=7)`, false},
	{"IPv4 from an auxiliary address and a MAC address that nobody has", `frame4(shared4, mac="02:00:00:00:01:77")/UDP(dport=7)`, false},
	{"IPv4 from the gateway's address", `frame4(gateway4)/UDP(dport=7)`, false},
	{"IPv4 from far away", `frame4("198.51.100.1")/UDP(dport=7)`, false},
	{"IPv4 from nobody", `frame4("0.0.0.0", "255.255.255.255")/UDP(sport=68, dport=67)/BOOTP()`, false},
	{"IPv4 from another's MAC address", `frame4(mac=other)/UDP(dport=7)`, false},
	{"DHCP server", `frame4()/UDP(sport=67, dport=68)/BOOTP(op=2)`, false},
	{"IPv4 redirect", `frame4()/ICMP(type=5, code=1, gw=my4)/IP(src=other4)/UDP()`, false},
	{"IPv4 router advertisement", `frame4()/ICMP(type=9)`, false},
	{"ARP reply for another", `arp(op=2, psrc=other4, pdst=gateway4)`, false},
	{"ARP reply for its address on another network", `arp(op=2, psrc=elsewhere4)`, false},
	{"ARP announcement of its address on another network", `arp(psrc=elsewhere4, pdst=elsewhere4)`, false},
	{"ARP request for its own address from that on another network", `arp(psrc=elsewhere4, pdst=my4)`, false},
	{"ARP probe of its address on another network", `arp(psrc="0.0.0.0", pdst=elsewhere4)`, false},
	{"ARP request from a link-local address for the gateway", `arp(psrc="169.254.7.7", pdst=gateway4)`, false},
	{"ARP reply for the gateway", `arp(op=2, psrc=gateway4)`, false},
	{"ARP probe of another's address", `arp(psrc="0.0.0.0", pdst=other4)`, false},
	{"ARP from another's MAC address", `arp(hwsrc=other)`, false},
	{"frames of other protocols", `Ether(src=me, dst=all_nodes, type=0x88b5)/Raw(b"x"*46)`, false},
}

// unseen is what iptables does not judge, even where br_netfilter shows it what is
// bridged: who is behind a port, what is no IP or wrapped in something, and what
// neighbor discovery is about. Fragments are put together, and cut anew.
var unseen = regexp.MustCompile("^(from another's addresses|.*VLAN tag.*|.*PPPoE|neighbor advertisement.*|neighbor solicitation that has been routed|" +
	"duplicate address detection.*|extension headers without end|ARP .*|frames of other protocols|in fragments|echo request in fragments)$")

// madeUp is what else the containers may send whose hosts make addresses themselves, and
// what they may not either.
var madeUp = map[string]bool{
	"from a link-local address that it has made up":                           true,
	"neighbor solicitation from a link-local address that it has made up":     true,
	"neighbor advertisement of a link-local address that it has made up":      true,
	"duplicate address detection of a link-local address that it has made up": true,
	"from an address that nobody has":                                         true,
	"neighbor advertisement of an address that nobody has":                    true,
	"from another's address":                                                  false,
	"from another's link-local address":                                       false,
	"from the gateway's link-local address":                                   false,
	"neighbor advertisement of another's link-local address":                  false,
	"neighbor advertisement of the gateway's link-local address":              false,
	"neighbor advertisement of another's address":                             false,
	"router advertisement":                                                    false,
}

// TestForgeries has scapy make what a container may send and what it may not, and
// looks for each frame at its neighbour. Without the ruleset all of it arrives.
func TestForgeries(t *testing.T) { eachBackend(t, testForgeries) }

func testForgeries(t *testing.T, b backend) {
	s := b.site(t)
	// br_netfilter puts fragments together; what iptables sees of frames it sees by it.
	bridgeNetfilter(t, s.host, map[bool]string{true: "0", false: "1"}[b.frames])
	web := &s.config.Networks[0]
	web.Shared = []netip.Addr{netip.MustParseAddr("2001:db8:1::99"), netip.MustParseAddr("172.18.1.99")}
	web.Live = append(web.Live, web.Shared...)
	web.Containers[0].Elsewhere = []netip.Addr{netip.MustParseAddr("2001:db8:7::9"), netip.MustParseAddr("172.18.7.9")}
	from, to := s.c["web2"], s.c["web3"]
	for _, quiet := range []*testnet.Host{from, to} {
		quiet.Sysctl(t, "net/ipv6/conf/eth0/router_solicitations", "0")
	}

	args := []string{"/usr/bin/python3", "-c", makeFrames}
	for _, f := range forgeries {
		args = append(args, f.frame)
	}
	var frames [][][]byte
	for line := range strings.Lines(from.Run(t, args...)) {
		var all [][]byte
		for text := range strings.FieldsSeq(line) {
			frame, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, frame)
		}
		frames = append(frames, all)
	}
	if len(frames) != len(forgeries) {
		t.Fatalf("scapy made %d of %d frames", len(frames), len(forgeries))
	}

	out, in := packetSocket(t, from, "eth0"), packetSocket(t, to, "eth0")
	arrives := func(frames [][]byte) bool {
		for _, f := range frames {
			if _, err := unix.Write(out, f); err != nil {
				t.Fatal(err)
			}
		}
		last := append(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, 2, 0, 0, 0, 1, 2)
		last = append(last, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 1, 2, 172, 18, 1, 2, 0, 0, 0, 0, 0, 0, 172, 18, 1, 2)
		if _, err := unix.Write(out, last); err != nil { // an announcement, which comes last
			t.Fatal(err)
		}
		missing := len(frames)
		var b [4096]byte
		for {
			n, err := unix.Read(in, b[:])
			if err != nil {
				t.Fatalf("what may be sent does not arrive: %v", err)
			}
			for _, f := range frames {
				if strings.HasPrefix(string(b[:n]), string(withoutTag(f))) {
					missing--
					break
				}
			}
			if strings.HasPrefix(string(b[:n]), string(last)) {
				return missing == 0
			}
		}
	}
	for i, f := range forgeries {
		if !arrives(frames[i]) {
			t.Errorf("without rules: %s: does not arrive, and the test would prove nothing", f.what)
		}
	}
	f := s.open(t)
	apply(t, f, s.config)
	judged := func(what string) bool { return b.frames || !unseen.MatchString(what) }
	for i, f := range forgeries {
		if got := arrives(frames[i]); got != f.passes && judged(f.what) {
			t.Errorf("%s: passes %v, want %v (%s)", f.what, got, f.passes, f.frame)
		}
	}
	web.Autonomous = prefixes("2001:db8:1::/64")
	apply(t, f, s.config)
	known := 0
	for i, f := range forgeries {
		want, ok := madeUp[f.what]
		if !ok {
			continue
		}
		known++
		if got := arrives(frames[i]); got != want && judged(f.what) {
			t.Errorf("addresses made by hosts: %s: passes %v, want %v (%s)", f.what, got, want, f.frame)
		}
	}
	if known != len(madeUp) {
		t.Errorf("%d of %d are known", known, len(madeUp))
	}
	web.Autonomous = nil
	if !b.frames {
		return
	}
	web.AnySource = true
	apply(t, f, s.config)
	for i, f := range forgeries {
		if !arrives(frames[i]) {
			t.Errorf("antispoof=off: %s does not arrive", f.what)
		}
	}
	web.AnySource, web.Containers = false, web.Containers[1:]
	apply(t, f, s.config)
	if _, err := unix.Write(out, frames[0][0]); err != nil {
		t.Fatal(err)
	}
	if seen, err := call(t.Context(), from, "tcp", "[2001:db8:1::3]:80"); err == nil && seen != "" {
		t.Errorf("a port that no container is known at reaches a neighbour as %s", seen)
	}
}

// withoutTag is a frame as a packet socket sees it: the kernel takes the outer
// VLAN tag off.
func withoutTag(frame []byte) []byte {
	if tag := string(frame[12:14]); tag == "\x81\x00" || tag == "\x88\xa8" {
		return append(append([]byte(nil), frame[:12]...), frame[16:]...)
	}
	return frame
}

// packetSocket sends and receives whole frames on a link of a host, as long as patience lasts.
func packetSocket(t testing.TB, h *testnet.Host, link string) int {
	t.Helper()
	var fd int
	h.Do(t, func() {
		device, err := net.InterfaceByName(link)
		if err != nil {
			t.Fatal(err)
		}
		all := int(bigEndian16(unix.ETH_P_ALL)[1])<<8 | int(bigEndian16(unix.ETH_P_ALL)[0])
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: device.Index}); err != nil {
			t.Fatal(err)
		}
		wait := unix.NsecToTimeval((10 * time.Second).Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			t.Fatal(err)
		}
	})
	return fd
}

// TestRogueRouters lets thc-ipv6 loose on a neighbour, with what it knows against
// guards. Without the ruleset the neighbour believes it. Where no frames are seen the
// ports have the eBPF guard, as the engine has it there.
func TestRogueRouters(t *testing.T) { eachKind(t, testRogueRouters) }

func testRogueRouters(t *testing.T, b backend) {
	s := b.site(t)
	attacker, victim := s.c["web2"], s.c["web3"]
	for key, value := range map[string]string{"accept_ra": "1", "forwarding": "0", "autoconf": "1", "accept_ra_defrtr": "1", "accept_dad": "0", "drop_unsolicited_na": "0"} {
		victim.Sysctl(t, "net/ipv6/conf/eth0/"+key, value)
	}
	attack := func() {
		for i, evasion := range [][]string{nil, {"-E", "H"}, {"-E", "1"}, {"-E", "H1"}, {"-E", "D"}, {"-E", "O"}, {"-E", "o"}, {"-E", "F"}} {
			prefix := "2001:db8:bad" + string(rune('0'+i)) + "::/64"
			args := append([]string{"timeout", "5", "atk6-fake_router26", "-n", "1", "-i", "1", "-A", prefix}, evasion...)
			_ = attacker.Command(t.Context(), append(args, "eth0")...).Run() // its status means nothing
		}
	}
	believed := func() string {
		return victim.Run(t, "sh", "-c", "ip -6 addr show dev eth0 | grep bad; ip -6 route | grep 'proto ra'; true")
	}
	guard := raguard.Guard{Port: true}
	f := s.open(t)
	apply(t, f, s.config)
	if !b.frames {
		s.host.Do(t, func() {
			if err := guard.Attach(t.Context(), "v6nvweb2"); err != nil {
				t.Fatal(err)
			}
		})
	}
	attack()
	if got := believed(); got != "" {
		t.Errorf("the victim believes\n%s", got)
	}
	// Addresses: the victim talks with a third party, as whom the attacker poses.
	third := "2001:db8:1::1"
	poison := func() string {
		victim.Run(t, "ping", "-c", "1", "-W", "2", third)
		for _, evasion := range []string{"-s", "-sH", "-sD"} {
			_ = attacker.Command(t.Context(), "timeout", "3", "atk6-fake_advertise6", evasion, "-n", "2", "-w", "1", "eth0", third, "2001:db8:1::3").Run()
		}
		return victim.Run(t, "ip", "-6", "neigh", "show", third, "dev", "eth0")
	}
	if b.frames { // the guard knows no global addresses
		if got := poison(); strings.Contains(got, "02:00:00:00:01:02") {
			t.Errorf("the victim takes the attacker for its gateway: %s", got)
		}
	}
	if err := f.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !b.frames {
		s.host.Do(t, func() {
			_ = guard.Close() // or its own program stays
			if err := guard.Detach(t.Context(), "v6nvweb2"); err != nil {
				t.Fatal(err)
			}
		})
	}
	if got := poison(); !strings.Contains(got, "02:00:00:00:01:02") {
		t.Errorf("without rules the victim is not deceived, and the test proves nothing: %s", got)
	}
	attack()
	if got := believed(); got == "" {
		t.Error("without rules the victim believes nothing, and the test proves nothing")
	}
}
