//go:build netns

package nft

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
)

// nmap, from outside, over all ports: what is published is open, and of the rest
// nothing says a word.
func TestScan(t *testing.T) { eachKind(t, testScan) }

func testScan(t *testing.T, b backend) {
	s := b.site(t)
	apply(t, s.open(t), s.config)
	for _, tc := range []struct{ to, open string }{
		{"2001:db8:1::2", "80"},
		{"2001:db8:1::3", ""},
		{"172.18.1.2", ""},
		{"fd00:2::2", ""},
		{"2001:db8:5::2", ""}, // inbound none
	} {
		if !b.frames && tc.to != "2001:db8:1::2" {
			continue // all ports cost a processor some seconds, and TestTraffic asks who else is reached
		}
		t.Run(tc.to, func(t *testing.T) {
			t.Parallel()
			args := []string{"nmap", "-n", "-Pn", "-sS", "-p-", "-T5", "--min-rate", "10000", "--max-retries", "1", "-oG", "-"}
			if strings.Contains(tc.to, ":") {
				args = append(args, "-6")
			}
			var found, closed []string
			out := s.outside.Run(t, append(args, tc.to)...)
			_, ports, _ := strings.Cut(out, "Ports: ")
			ports, _, _ = strings.Cut(ports, "\t")
			for port := range strings.SplitSeq(ports, ", ") {
				switch number, rest, _ := strings.Cut(port, "/"); {
				case strings.HasPrefix(rest, "open/"):
					found = append(found, number)
				case strings.HasPrefix(rest, "closed/"):
					closed = append(closed, number)
				}
			}
			if got := strings.Join(found, " "); got != tc.open {
				t.Errorf("open: %s, want %s\n%s", got, tc.open, out)
			}
			if len(closed) > 0 || strings.Contains(out, "Ignored State: closed") {
				t.Errorf("the container answers for closed ports\n%s", out)
			}
		})
	}
}

// The same by UDP: the published port answers, and of the rest nobody hears that it is closed.
func TestScanUDP(t *testing.T) { eachKind(t, testScanUDP) }

func testScanUDP(t *testing.T, b backend) {
	s := b.site(t)
	apply(t, s.open(t), s.config)
	for to, want := range map[string]string{"2001:db8:1::2": "53", "2001:db8:1::3": "", "172.18.1.2": "", host4: "5353"} {
		args := []string{"nmap", "-n", "-Pn", "-sU", "-p", "1-2000,5353", "-T5", "--min-rate", "1000", "--max-retries", "2", "-oG", "-"}
		if strings.Contains(to, ":") {
			args = append(args, "-6")
		}
		out := s.outside.Run(t, append(args, to)...)
		_, ports, _ := strings.Cut(out, "Ports: ")
		var found []string
		for port := range strings.SplitSeq(ports, ", ") {
			number, rest, _ := strings.Cut(port, "/")
			if strings.HasPrefix(rest, "open/") {
				found = append(found, number)
			}
			if strings.HasPrefix(rest, "closed/") && to != host4 { // whose own ports are its own to refuse
				t.Errorf("%s answers for its closed port %s", to, number)
			}
		}
		if got := strings.Join(found, " "); got != want {
			t.Errorf("%s: open UDP ports %q, want %q\n%s", to, got, want, out)
		}
		if strings.Contains(out, "Ignored State: closed") && to != host4 {
			t.Errorf("%s answers for closed ports\n%s", to, out)
		}
	}
}

// A range of ports is open from its first to its last, by the container's own address and
// by the host's, and the ports beside it are not.
func TestRangeOfPorts(t *testing.T) { eachKind(t, testRangeOfPorts) }

func testRangeOfPorts(t *testing.T, b backend) {
	s := b.site(t)
	b.policyDrop(t, s.host)
	web := &s.config.Networks[0]
	for n := range uint16(10) {
		web.Published = append(web.Published,
			firewall.Published{Protocol: "tcp", Container: netip.MustParseAddr("2001:db8:1::2"), Port: 3000 + n},
			firewall.Published{Protocol: "tcp", Container: netip.MustParseAddr("172.18.1.2"), Port: 3000 + n, HostPort: 4000 + n})
	}
	apply(t, s.open(t), s.config)
	for _, n := range []int{-1, 0, 5, 9, 10} {
		port := strconv.Itoa(3000 + n)
		listen(t, s.c["web2"], "tcp", ":"+port)
		s.wantReached(t, s.outside, "tcp", "[2001:db8:1::2]:"+port, 0 <= n && n < 10)
		want := ""
		if 0 <= n && n < 10 {
			want = outside4
		}
		// Beside the range it is the host itself that refuses.
		if got, _ := insist(t.Context(), s.outside, "tcp", host4+":"+strconv.Itoa(4000+n)); got != want {
			t.Errorf("port %d of the host's: answered to %q, want %q", 4000+n, got, want)
		}
	}
}

// sendSCTP has scapy ask for an SCTP association.
const sendSCTP = `
from scapy.all import *
import sys
to, port, mac = sys.argv[1:]
layer = IPv6(dst=to) if ":" in to else IP(dst=to)
sendp(Ether(dst=mac)/layer/SCTP(sport=4000, dport=int(port), tag=0)/SCTPChunkInit(init_tag=7, init_tsn=1), iface="lan0", verbose=False)
`

// SCTP is published as TCP is. Containers need no kernel that speaks it here: what
// comes in is looked at on the wire.
func TestSCTP(t *testing.T) { eachBackend(t, testSCTP) }

func testSCTP(t *testing.T, b backend) {
	s := b.site(t)
	web := &s.config.Networks[0]
	addr := netip.MustParseAddr
	web.Published = append(web.Published,
		firewall.Published{Protocol: "sctp", Container: addr("2001:db8:1::2"), Port: 5000},
		firewall.Published{Protocol: "sctp", Container: addr("172.18.1.2"), Port: 5000, HostPort: 6000},
		firewall.Published{Protocol: "sctp", Container: addr("172.18.1.2"), Port: 5001, HostPort: 6001, HostIP: addr(host4)})
	apply(t, s.open(t), s.config)
	in := packetSocket(t, s.c["web2"], "eth0")
	router := s.host.MAC(t, "eth0")
	ask := func(to string, port int) {
		s.outside.Run(t, "/usr/bin/python3", "-c", sendSCTP, to, strconv.Itoa(port), router)
	}
	ask("2001:db8:1::2", 5001) // not published
	ask("172.18.1.2", 5000)    // not by its own address
	ask("192.0.2.2", 6001)     // not by this address of the host's
	ask("2001:db8:1::2", 5000)
	ask(host4, 6000)
	ask(host4, 6001)
	want := []string{"2001:db8:1::2 5000", "172.18.1.2 5000", "172.18.1.2 5001"}
	for len(want) > 0 {
		got := nextSCTP(t, in)
		if got != want[0] {
			t.Fatalf("the container is asked for %s, want %s", got, want[0])
		}
		want = want[1:]
	}
}

// nextSCTP is where the next SCTP packet goes to.
func nextSCTP(t testing.TB, socket int) string {
	t.Helper()
	var b [2048]byte
	for {
		n, err := unix.Read(socket, b[:])
		if err != nil {
			t.Fatalf("no SCTP comes in: %v", err)
		}
		packet := b[14:n]
		var to netip.Addr
		switch {
		case packet[0]>>4 == 6 && packet[6] == unix.IPPROTO_SCTP:
			to, packet = netip.AddrFrom16([16]byte(packet[24:40])), packet[40:]
		case packet[0] == 0x45 && packet[9] == unix.IPPROTO_SCTP:
			to, packet = netip.AddrFrom4([4]byte(packet[16:20])), packet[20:]
		default:
			continue
		}
		return to.String() + " " + strconv.Itoa(int(packet[2])<<8|int(packet[3]))
	}
}
