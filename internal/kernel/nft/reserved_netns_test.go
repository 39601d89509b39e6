//go:build netns

package nft

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/link"
	"github.com/v6net/v6net/internal/kernel/raguard"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// toReserved has scapy make frames to each address that bridges have for themselves: ARP and
// neighbor discovery under addresses that nobody has, from another's MAC address.
const toReserved = `
from scapy.all import *
me, other = "02:00:00:00:01:09", "02:00:00:00:01:03"
for x in range(16):
    e, a = Ether(src=other, dst="01:80:c2:00:00:%02x" % x), 100 + x
    print(raw(e/ARP(op=1, hwsrc=me, psrc="172.18.1.%d" % a, pdst="172.18.1.1")).hex())
    for host, group in ("2001:db8:1::1", "2001:db8:1::1"), ("fe80::1", "ff02::1:ff00:1"):
        print(raw(e/IPv6(src="2001:db8:1::a%d" % a, dst=group, hlim=255)/ICMPv6ND_NS(tgt=host)/ICMPv6NDOptSrcLLAddr(lladdr=me)).hex())
`

// newcomer is one more container of network web, at a port of the engine's.
type newcomer struct {
	*site
	port spec.Veth
	self *testnet.Host
}

// join brings the newcomer, whose port is not judged if it may send what it likes.
func (s *site) join(t *testing.T, anySource bool) newcomer {
	t.Helper()
	id := strings.Repeat("e9", 32)
	n := newcomer{s, spec.Veth{
		Name: spec.VethName(id), Peer: spec.SandboxName(id), Alias: spec.EndpointAlias(id), Bridge: "web", MAC: "02:00:00:00:01:09",
		Guarded: !anySource, Judged: !anySource && s.frames,
	}, testnet.New(t, "newcomer")}
	n.ensurePort(t)
	s.host.Run(t, "ip", "link", "set", n.port.Peer, "netns", n.self.Path(), "name", "eth0")
	ip(t, n.self, "link set eth0 up", "addr add 2001:db8:1::9/64 nodad dev eth0")
	s.wantForwarding(t, n.port.Name)
	web, own := &s.config.Networks[0], netip.MustParseAddr("2001:db8:1::9")
	web.AnySource = anySource
	web.Containers = append(web.Containers, firewall.Container{Port: n.port.Name, MAC: n.port.MAC, Addresses: []netip.Addr{own}})
	web.Live = append(web.Live, own)
	return n
}

// wantForwarding waits until a bridge forwards what its port receives.
func (s *site) wantForwarding(t *testing.T, port string) {
	t.Helper()
	testnet.Eventually(t, longest, "carrier of "+port, func() bool {
		return strings.Contains(s.host.Run(t, "bridge", "link", "show", "dev", port), "state forwarding")
	})
}

// ensurePort has the port as the engine wants it, but for the guard.
func (n newcomer) ensurePort(t *testing.T) {
	t.Helper()
	n.host.Do(t, func() {
		h, err := link.New()
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if err := h.EnsureVeth(t.Context(), n.port); err != nil {
			t.Fatal(err)
		}
	})
}

// guard puts the eBPF program at a port that is not judged.
func (n newcomer) guard(t *testing.T) {
	t.Helper()
	guard := raguard.Guard{Port: true}
	n.host.Do(t, func() {
		if err := guard.Attach(t.Context(), n.port.Name); err != nil {
			t.Fatal(err)
		}
	})
	if err := guard.Close(); err != nil {
		t.Error(err)
	}
}

// What a container sends to the addresses that bridges have for themselves is judged as all
// else at its port, or dropped there: nobody's neighbour table is filled by it, and no
// neighbour's frames are turned to the container.
func TestReservedAddressesAreJudged(t *testing.T) { eachKind(t, testReservedAddressesAreJudged) }

func testReservedAddressesAreJudged(t *testing.T, b backend) {
	s := b.site(t)
	n := s.join(t, false)
	if !n.port.Judged {
		n.guard(t)
	}
	apply(t, s.open(t), s.config)

	s.wantReached(t, s.c["web3"], "tcp", "[2001:db8:1::2]:80", true) // so that the bridge knows where web3 is
	out := packetSocket(t, n.self, "eth0")
	for line := range strings.Lines(s.host.Run(t, "/usr/bin/python3", "-c", toReserved)) {
		frame, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(out, frame); err != nil {
			t.Fatal(err)
		}
	}
	s.wantReached(t, n.self, "tcp", "[2001:db8:1::2]:80", true) // comes last
	if got := s.host.Run(t, "ip", "neigh", "show", "dev", n.port.Name); got != "" {
		t.Errorf("the host has neighbours behind a container's port:\n%s", got)
	}
	s.wantNeighbours(t, 0)
	for line := range strings.Lines(s.host.Run(t, "bridge", "fdb", "show", "br", "web")) {
		if strings.HasPrefix(line, "02:00:00:00:01:03 ") && !strings.Contains(line, " "+spec.VethPrefix+"web3 ") {
			t.Errorf("a neighbour's frames go to the wrong port: %s", line)
		}
	}
}

// linkProtocols are LLDP, LACP and EAPOL (IEEE 802.1AB, 802.1AX, 802.1X): between who is at
// the two ends of a cable.
var linkProtocols = []string{"\x88\xcc", "\x88\x09", "\x88\x8e"}

// From a card that is on a bridge, too, containers do not talk with the switch as if they
// were their host: whether what they send is judged by nftables, held to the rest by eBPF, by
// nothing since the kernel is too old for that, or by nothing since they may send what they like.
func TestLinkProtocolsStay(t *testing.T) { eachKind(t, testLinkProtocolsStay) }

func testLinkProtocolsStay(t *testing.T, b backend) {
	for _, tc := range []struct {
		name               string
		anySource, unaided bool
	}{{name: "antispoof=on"}, {name: "antispoof=on, without eBPF", unaided: true}, {name: "antispoof=off", anySource: true}} {
		if tc.unaided && b.frames {
			continue // which needs none
		}
		t.Run(tc.name, func(t *testing.T) {
			s := b.site(t)
			n := s.join(t, tc.anySource)
			peer := testnet.New(t, "switch")
			testnet.Connect(t, s.host, "card0", peer, "port0")
			ip(t, s.host, "link set card0 master web")
			s.wantForwarding(t, "card0")
			out, in := packetSocket(t, n.self, "eth0"), packetSocket(t, peer, "port0")
			// leave has all of them sent, and reports which come to the switch.
			leave := func() []string {
				last := "\x33\x33\x00\x00\x00\x01\x02\x00\x00\x00\x01\x09\x86\xdd\x60\x00\x00\x00\x00\x08\x11\xff" +
					string(netip.MustParseAddr("2001:db8:1::9").AsSlice()) + string(netip.MustParseAddr("ff02::1").AsSlice()) + "\x30\x39\x30\x39\x00\x08\x00\x00"
				frames := []string{}
				for _, protocol := range linkProtocols {
					for x := range byte(16) {
						frames = append(frames, "\x01\x80\xc2\x00\x00"+string(rune(x))+last[6:12]+protocol+strings.Repeat("\x00", 46))
					}
				}
				for _, frame := range append(frames, last) {
					if _, err := unix.Write(out, []byte(frame)); err != nil {
						t.Fatal(err)
					}
				}
				came := []string{}
				for buffer := make([]byte, 2048); ; {
					length, err := unix.Read(in, buffer)
					if err != nil {
						t.Fatalf("what any container may send does not come to the switch: %v", err)
					}
					frame := string(buffer[:length])
					if strings.HasPrefix(frame, last) {
						return came
					}
					if slices.Contains(frames, frame) {
						came = append(came, fmt.Sprintf("%x to %x", frame[12:14], frame[5:6]))
					}
				}
			}
			s.host.Run(t, "ip", "link", "set", n.port.Name, "type", "bridge_slave", "group_fwd_mask", "0xfffd")
			testnet.Eventually(t, longest, "all that a bridge can forward", func() bool { return len(leave()) == 15*len(linkProtocols) })

			n.ensurePort(t)
			if n.port.Guarded && !n.port.Judged && !tc.unaided {
				n.guard(t)
			}
			apply(t, s.open(t), s.config)
			for _, what := range leave() {
				// A bridge without a spanning tree forwards what is for bridges with one.
				if !strings.HasSuffix(what, " to 00") || !tc.anySource && !tc.unaided {
					t.Errorf("a container's frame gets out of the card: %s", what)
				}
			}
		})
	}
}
