//go:build netns

package nft

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/link"
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

// What a container sends to the addresses that bridges have for themselves is judged as all
// else at its port: nobody's neighbour table is filled by it, and no neighbour's frames are
// turned to the container.
func TestReservedAddressesAreJudged(t *testing.T) { eachKind(t, testReservedAddressesAreJudged) }

func testReservedAddressesAreJudged(t *testing.T, b backend) {
	s := b.site(t)
	id := strings.Repeat("e9", 32)
	want := spec.Veth{Name: spec.VethName(id), Peer: spec.SandboxName(id), Alias: spec.EndpointAlias(id), Bridge: "web", MAC: "02:00:00:00:01:09"}
	s.host.Do(t, func() { // as the engine makes it
		h, err := link.New()
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if err := h.EnsureVeth(t.Context(), want); err != nil {
			t.Fatal(err)
		}
	})
	attacker := testnet.New(t, "attacker")
	s.host.Run(t, "ip", "link", "set", want.Peer, "netns", attacker.Path(), "name", "eth0")
	ip(t, attacker, "link set eth0 up", "addr add 2001:db8:1::9/64 nodad dev eth0")
	web := &s.config.Networks[0]
	own := netip.MustParseAddr("2001:db8:1::9")
	web.Containers = append(web.Containers, firewall.Container{Port: want.Name, MAC: want.MAC, Addresses: []netip.Addr{own}})
	web.Live = append(web.Live, own)
	apply(t, s.open(t), s.config)

	s.wantReached(t, s.c["web3"], "tcp", "[2001:db8:1::2]:80", true) // so that the bridge knows where web3 is
	out := packetSocket(t, attacker, "eth0")
	for line := range strings.Lines(s.host.Run(t, "/usr/bin/python3", "-c", toReserved)) {
		frame, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(out, frame); err != nil {
			t.Fatal(err)
		}
	}
	s.wantReached(t, attacker, "tcp", "[2001:db8:1::2]:80", true) // comes last
	if got := s.host.Run(t, "ip", "neigh", "show", "dev", want.Name); got != "" {
		t.Errorf("the host has neighbours behind a container's port:\n%s", got)
	}
	if !b.frames {
		return // ARP and MAC addresses are not judged, whatever they are sent to
	}
	s.wantNeighbours(t, 0)
	for line := range strings.Lines(s.host.Run(t, "bridge", "fdb", "show", "br", "web")) {
		if strings.HasPrefix(line, "02:00:00:00:01:03 ") && !strings.Contains(line, " "+spec.VethPrefix+"web3 ") {
			t.Errorf("a neighbour's frames go to the wrong port: %s", line)
		}
	}
}
