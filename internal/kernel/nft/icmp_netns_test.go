//go:build netns

package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// sendICMPv6 has scapy send one message of each type, none of which anybody has
// asked for, with its type as the packet's flow label, by which it is known.
const sendICMPv6 = `
from scapy.all import *
import sys
source, to, mac, link, *types = sys.argv[1:]
# An error is about a packet that was sent; conntrack has never seen this one.
about = IPv6(src=to, dst=source)/UDP(sport=4444, dport=4444)/Raw(b"x"*8)
for t in map(int, types):
	body = bytes([t, 0, 0, 0, 0, 0, 5, 0]) + (raw(about) if t < 128 else b"\0"*32)
	packet = IPv6(src=source, dst=to, hlim=64, fl=t, nh=58, plen=len(body))
	sum = in6_chksum(58, packet, body)
	sendp(Ether(dst=mac)/packet/Raw(body[:2] + bytes([sum >> 8, sum & 255]) + body[4:]), iface=link, verbose=False)
`

// TestICMPv6 is the table of RFC 4890 §4.3: what passes without anybody having
// asked for it.
func TestICMPv6(t *testing.T) { eachKind(t, testICMPv6) }

func testICMPv6(t *testing.T, b backend) {
	s := b.site(t)
	bridgeNetfilter(t, s.host, "1")
	b.policyDrop(t, s.host)
	apply(t, s.open(t), s.config)
	errors := []int{1, 2, 3, 4}
	linkOnly := []int{130, 131, 132, 133, 134, 135, 136, 137, 141, 142, 143, 148, 149, 151, 152, 153}
	others := []int{100, 128, 129, 138, 139, 140, 144, 145, 146, 147, 155, 200}
	all := slices.Sorted(slices.Values(slices.Concat(errors, linkOnly, others)))
	without := func(types []int, these ...int) []int {
		return slices.DeleteFunc(slices.Clone(types), func(n int) bool { return slices.Contains(these, n) })
	}
	forwarded := without(all, linkOnly...)
	for _, tc := range []struct {
		what     string
		from, to *testnet.Host
		source   string
		addr     string
		want     []int
	}{
		{"inbound published", s.outside, s.c["web3"], outside6, "2001:db8:1::3", []int{1, 2, 3, 4, 128}},
		{"inbound none", s.outside, s.c["none2"], outside6, "2001:db8:5::2", errors},
		{"inbound open", s.outside, s.c["open2"], outside6, "2001:db8:4::2", forwarded},
		{"internal", s.outside, s.c["internal2"], outside6, "2001:db8:3::2", nil},
		{"from an isolated network", s.c["web2"], s.c["mutual2"], "2001:db8:1::2", "2001:db8:6::2", errors},
		{"between networks that are not isolated", s.c["mutual2"], s.c["seven2"], "2001:db8:6::2", "2001:db8:7::2", without(forwarded, 138)}, // router renumbering is no container's
		{"outbound", s.c["web2"], s.outside, "2001:db8:1::2", outside6, without(forwarded, 138)},
	} {
		t.Run(tc.what, func(t *testing.T) {
			gateway, out, in := s.host.MAC(t, "eth0"), "lan0", "eth0"
			if tc.from != s.outside {
				out = "eth0"
				bridge := map[string]string{"web2": "web", "mutual2": "mutual"}[tc.from.Name()]
				gateway = s.host.MAC(t, bridge)
			}
			if tc.to == s.outside {
				in = "lan0"
			}
			// The host knows who has the address, or the first packets would wait for that.
			s.host.Run(t, "ping", "-c", "1", "-W", "2", tc.addr)
			socket := packetSocket(t, tc.to, in)
			args := []string{"/usr/bin/python3", "-c", sendICMPv6, tc.source, tc.addr, gateway, out}
			for _, n := range all {
				args = append(args, fmt.Sprint(n))
			}
			tc.from.Run(t, args...)
			// What comes last is the host's own, and has no flow label.
			s.host.Run(t, "ping", "-c", "1", "-W", "2", "-p", "7e7e", "-s", "99", tc.addr)
			var got []int
			for n := 0; n >= 0; {
				if n = nextICMPv6(t, socket, netip.MustParseAddr(tc.source)); n > 0 {
					got = append(got, n)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("from %s to %s types %v pass, want %v", tc.from.Name(), tc.to.Name(), got, tc.want)
			}
		})
	}
}

// nextICMPv6 is the type of the next message from the source that comes in; 0 is
// another packet, and -1 the last.
func nextICMPv6(t testing.TB, socket int, source netip.Addr) int {
	t.Helper()
	var b [2048]byte
	n, err := unix.Read(socket, b[:])
	if err != nil {
		t.Fatalf("the last packet does not come: %v", err)
	}
	packet := b[14:n]
	switch {
	case len(packet) < 41 || packet[0]>>4 != 6 || packet[6] != unix.IPPROTO_ICMPV6:
		return 0
	case packet[40] == 128 && len(packet) == 40+8+99 && strings.Contains(string(packet), "\x7e\x7e\x7e\x7e"):
		return -1
	case netip.AddrFrom16([16]byte(packet[8:24])) != source:
		return 0
	case int(packet[3]) != int(packet[40]):
		return 0 // not scapy's
	}
	return int(packet[40])
}

// A container whose IPv4 address is its own to the world (gateway_mode_ipv4=routed) answers
// to ping as by IPv6; one behind an address of the host's is not known by its own.
func TestPingIPv4(t *testing.T) { eachKind(t, testPingIPv4) }

func testPingIPv4(t *testing.T, b backend) {
	s := b.site(t)
	b.policyDrop(t, s.host)
	routed, closed := &s.config.Networks[5], &s.config.Networks[6]
	routed.Masquerade, closed.Masquerade, closed.Inbound = nil, nil, spec.InboundNone
	apply(t, s.open(t), s.config)
	for _, tc := range []struct {
		to       string
		answered bool
	}{{"172.18.6.2", true}, {"172.18.7.2", false}, {"172.18.1.2", false}} {
		ping := func() bool {
			return s.outside.Command(t.Context(), "ping", "-c", "1", "-W", "1", tc.to).Run() == nil
		}
		if got := tc.answered && eventually(ping) || !tc.answered && ping(); got != tc.answered {
			t.Errorf("ping from outside to %s answered: %v, want %v", tc.to, got, tc.answered)
		}
		judged, err := s.config.Explain(spec.Call{From: netip.MustParseAddr(outside4), To: netip.MustParseAddr(tc.to), Protocol: "ping"}, firewall.Host{})
		if err != nil || (judged.Verdict == spec.Accepted) != tc.answered {
			t.Errorf("explained as %v, %v, want accepted: %v", judged, err, tc.answered)
		}
	}
}
