//go:build netns

package raguard_test

import (
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/raguard"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// makeFrames has scapy write the frames of each expression in a line of its own.
const makeFrames = `
import logging
logging.getLogger("scapy").setLevel(logging.CRITICAL)
from scapy.all import *
import sys
me, all_nodes = "02:00:00:00:01:02", "33:33:00:00:00:01"
def six(*before, **more):
	packet = Ether(src=me, dst=all_nodes)
	for tag in before: packet = packet/tag
	return packet/IPv6(src="2001:db8:1::2", dst="ff02::1", hlim=255, **more)
def na(target): return six()/ICMPv6ND_NA(tgt=target, R=1, S=1, O=1)/ICMPv6NDOptDstLLAddr(lladdr=me)
def dad(target): return Ether(src=me, dst=all_nodes)/IPv6(src="::", dst="ff02::1:ff00:3", hlim=255)/ICMPv6ND_NS(tgt=target)
def four(**more): return Ether(src=me, dst="ff:ff:ff:ff:ff:ff")/IP(src="192.0.2.2", dst="192.0.2.255", **more)
ra = ICMPv6ND_RA(routerlifetime=1800)/ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64)
server6, server4 = UDP(sport=547, dport=546)/DHCP6_Reply(), UDP(sport=67, dport=68)/BOOTP(op=2)
def reserved(n, type=None): return Ether(src=me, dst="01:80:c2:%02x:%02x:%02x" % (n >> 16, n >> 8 & 255, n & 255), **(dict(type=type) if type else {}))
arp = ARP(hwsrc=me, psrc="192.0.2.2", pdst="192.0.2.3")
hop, dest, tag = IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), Dot1Q(vlan=0)
many = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0"*200)]*8)
def split(packet, size=1280):
	ether = packet.copy(); ether.remove_payload()
	return [ether/p for p in fragment6(IPv6(raw(packet[IPv6])), size)]
for line in sys.argv[1:]:
	frames = eval(line)
	if not isinstance(frames, list): frames = [frames]
	print(*[raw(f).hex() for f in frames])
`

// gateway is the next hop of a network's containers.
var gateway = spec.LinkLocalGateway(strings.Repeat("ab", 32)).Addr().String()

// portFrames are what a container sends.
var portFrames = []struct {
	frame  string
	passes bool
}{
	{`six()/UDP(dport=7)`, true},
	{`six()/TCP(dport=80)`, true},
	{`six(nh=59)`, true},
	{`six()/ICMPv6EchoRequest()`, true},
	{`six()/ICMPv6ND_NS(tgt="2001:db8:1::3")`, true},
	{`six()/ICMPv6ND_NA(tgt="2001:db8:1::2")`, true},
	{`na("fe80::ff:fe00:102")`, true},           // of its own MAC
	{`na("fe80::1234:5678:9abc:def0")`, true},   // RFC 7217
	{`na("fe80:0:0:1:1:aaaa:aaaa:aaaa")`, true}, // no link's
	{`dad("2001:db8:1::2")`, true},
	{`dad("fe80::ff:fe00:102")`, true},
	{`six()/ICMPv6ND_NS(tgt="` + gateway + `")`, true},
	{`six()/ICMPv6ND_NS(tgt="fe80::ff:fe00:103")`, true},
	{`six()/ICMPv6ND_RS()`, true},
	{`six()/hop/ICMPv6MLReport2()`, true},
	{`six()/hop/dest/UDP(dport=7)`, true},
	{`six()/UDP(sport=546, dport=547)/DHCP6_Solicit()`, true},
	{`split(six()/IPv6ExtHdrFragment()/UDP(dport=7)/Raw(b"x"*3000))`, true},
	{`split(six()/IPv6ExtHdrFragment()/ICMPv6EchoRequest(data=b"x"*3000))`, true},
	{`six(tag)/UDP(dport=7)`, true},
	{`four()/UDP(dport=7)`, true},
	{`four()/ICMP()`, true},
	{`four()/UDP(sport=68, dport=67)/BOOTP()`, true},
	{`fragment(four()/UDP(dport=7)/Raw(b"x"*3000), 1400)`, true},
	{`four(options=[IPOption_NOP()]*4)/UDP(dport=7)`, true},
	{`Ether(src=me, dst="ff:ff:ff:ff:ff:ff")/ARP(hwsrc=me, psrc="192.0.2.2", pdst="192.0.2.3")`, true},

	{`six()/ra`, false},
	{`six()/hop/dest/ra`, false},
	{`six()/dest/dest/dest/dest/dest/ra`, false},
	{`six()/IPv6ExtHdrFragment(nh=58)/ra`, false},
	{`six()/hop/IPv6ExtHdrFragment(nh=60)/dest/ra`, false},
	{`split(six()/IPv6ExtHdrFragment()/many/ra)`, false},
	{`six(tag)/ra`, false},
	{`six(tag, tag)/ra`, false},
	{`six(Dot1AD(vlan=0), tag)/ra`, false},
	{`six()/ICMPv6ND_Redirect(tgt="fe80::2", dst="2001:db8:ffff::1")`, false},
	{`six()/ICMPv6Unknown(type=138)`, false},
	{`six()/server6`, false},
	{`six()/UDP(sport=5000, dport=546)/DHCP6_Advertise()`, false},
	{`six()/hop/server6`, false},
	{`six()/IPv6ExtHdrFragment(nh=17)/server6`, false},
	{`split(six()/IPv6ExtHdrFragment()/many/server6)`, false},
	{`six(nh=17)/Raw(b"\x02\x23")`, false}, // which ends before it says what it is for
	{`na("` + gateway + `")`, false},
	{`six(tag)/ICMPv6ND_NA(tgt="` + gateway + `")`, false},
	{`six()/dest/ICMPv6ND_NA(tgt="` + gateway + `")`, false},
	{`dad("` + gateway + `")`, false},
	{`na("fe80::ff:fe00:103")`, false}, // another's
	{`na("fe80::ff:fe01:102")`, false},
	{`na("fe80::ff:fe00:202")`, false},
	{`na("fe80::1ff:fe00:102")`, false},
	{`na("fe80::200:ff:fe00:102")`, false},
	{`dad("fe80::ff:fe00:103")`, false},
	{`six(nh=58)/Raw(raw(ICMPv6ND_NA(tgt="fe80::9"))[:20])`, false}, // which ends before it says who
	{`four()/server4`, false},
	{`four(options=[IPOption_NOP()]*4)/server4`, false},
	{`four()/ICMP(type=5, code=1, gw="192.0.2.2")/IP()/UDP()`, false},
	{`four()/ICMP(type=9)`, false},

	{`reserved(0x00)/arp`, false},
	{`reserved(0x02, 0x8809)`, false}, // LACP
	{`reserved(0x03, 0x888e)`, false}, // EAPOL
	{`reserved(0x0e, 0x88cc)`, false}, // LLDP
	{`reserved(0x0e)/arp`, false},
	{`reserved(0x0e)/tag/arp`, false},
	{`reserved(0x0f)/six()[IPv6]/UDP(dport=7)`, false},
	{`reserved(0x10)/arp`, true}, // the first of those that are not
	{`reserved(0x100)/arp`, true},
	{`reserved(0x10000)/arp`, true},
}

// At the host's end of a cable nothing gets in that only routers and servers send, or that
// is for bridges, and all else does; without the guard all of it does. A second daemon adds nothing.
func TestPort(t *testing.T) {
	host, from, to := testnet.New(t, "host"), testnet.New(t, "from"), testnet.New(t, "to")
	host.Run(t, "ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
	host.Run(t, "ip", "link", "set", "br0", "up")
	for port, c := range map[string]*testnet.Host{"v6nvfrom": from, "v6nvto": to} {
		testnet.Connect(t, host, port, c, "eth0")
		host.Run(t, "ip", "link", "set", port, "master", "br0")
		c.Run(t, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
	}
	host.Run(t, "ip", "link", "set", "v6nvfrom", "type", "bridge_slave", "group_fwd_mask", "0xfffd") // so that all of it would arrive
	args := []string{"/usr/bin/python3", "-c", makeFrames}
	for _, f := range portFrames {
		args = append(args, f.frame)
	}
	made := strings.Split(strings.TrimSpace(from.Run(t, args...)), "\n")
	if len(made) != len(portFrames) {
		t.Fatalf("scapy made %d of %d frames", len(made), len(portFrames))
	}
	out, in := packetSocket(t, from), packetSocket(t, to)
	arrives := func(line string) bool {
		missing := map[string]bool{}
		for _, text := range strings.Fields(line) {
			frame, err := hex.DecodeString(text)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(out, frame); err != nil {
				t.Fatal(err)
			}
			if tag := string(frame[12:14]); tag == "\x81\x00" || tag == "\x88\xa8" { // the kernel takes the outer one off
				frame = append(append([]byte(nil), frame[:12]...), frame[16:]...)
			}
			missing[string(frame)] = true
		}
		last := "\x01\x00\x5e\x00\x00\x01\x02\x00\x00\x00\x01\x02\x88\xb5 comes last"
		if _, err := unix.Write(out, []byte(last)); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 4096); ; {
			n, err := unix.Read(in, b)
			if err != nil {
				t.Fatalf("what may be sent does not arrive: %v", err)
			}
			if strings.HasPrefix(string(b[:n]), last) {
				return len(missing) == 0
			}
			delete(missing, string(b[:n]))
		}
	}
	for i, f := range portFrames {
		if !arrives(made[i]) {
			t.Errorf("without the guard %s does not arrive, and the test would prove nothing", f.frame)
		}
	}
	for range 2 {
		g := &raguard.Guard{Port: true}
		host.Do(t, func() {
			for range 2 {
				if err := g.Attach(t.Context(), "v6nvfrom"); err != nil {
					t.Error(err)
				}
			}
			if got := programs(t, "v6nvfrom"); got != 1 {
				t.Errorf("the guard is there %d times", got)
			}
		})
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	for i, f := range portFrames {
		if got := arrives(made[i]); got != f.passes {
			t.Errorf("%s: passes %v, want %v", f.frame, got, f.passes)
		}
	}
}

// packetSocket sends and receives whole frames on a host's eth0.
func packetSocket(t *testing.T, h *testnet.Host) (fd int) {
	t.Helper()
	h.Do(t, func() {
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index}); err != nil {
			t.Fatal(err)
		}
		wait := unix.NsecToTimeval((10 * time.Second).Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			t.Fatal(err)
		}
	})
	return fd
}
