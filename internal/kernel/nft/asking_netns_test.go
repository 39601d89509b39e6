//go:build netns

package nft

import (
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

// closedInput has the host let nothing in but what it must, as ufw and others do.
func closedInput(t testing.TB, host *testnet.Host, programs [2]string) {
	t.Helper()
	for _, iptables := range programs {
		host.Run(t, iptables, "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
		host.Run(t, iptables, "-P", "INPUT", "DROP")
	}
	host.Run(t, programs[1], "-A", "INPUT", "-p", "ipv6-icmp", "-j", "ACCEPT")
}

// A network's own containers reach its name server on a host that lets nothing in, and
// nobody else does, nor they anything else.
func TestNamesAreAnsweredBehindAClosedInput(t *testing.T) {
	eachKind(t, testNamesAreAnsweredBehindAClosedInput)
}

func testNamesAreAnsweredBehindAClosedInput(t *testing.T, b backend) {
	s := b.site(t)
	closedInput(t, s.host, b.programs)
	web := &s.config.Networks[0]
	f := s.open(t)
	calls := []struct {
		from        *testnet.Host
		network, to string
		reached     bool // where the name server is asked
	}{
		{s.c["web2"], "udp", "[2001:db8:1::1]:53", true},
		{s.c["web2"], "tcp", "[2001:db8:1::1]:53", true},
		{s.c["web3"], "udp", "172.18.1.1:53", true},
		{s.c["web3"], "tcp", "172.18.1.1:53", true},
		{s.c["web2"], "udp", "[" + host6 + "]:53", false},
		{s.c["web2"], "tcp", "[2001:db8:1::1]:7070", false},
		{s.c["web2"], "tcp", "172.18.1.1:7070", false},
		{s.outside, "udp", "[2001:db8:1::1]:53", false},
		{s.outside, "udp", "172.18.1.1:53", false},
		{s.c["seven2"], "udp", "[2001:db8:1::1]:53", false},
		{s.c["internal2"], "udp", "[2001:db8:3::1]:53", false}, // without dns=on
	}
	apply(t, f, s.config)
	for _, c := range calls {
		s.wantReached(t, c.from, c.network, c.to, false)
	}
	for _, iptables := range b.programs {
		if all := s.host.Run(t, iptables, "-S", "INPUT"); strings.Contains(all, "v6net") {
			t.Errorf("a rule of ours that nobody needs:\n%s", all)
		}
	}
	before := s.host.Run(t, b.programs[0], "-S") + s.host.Run(t, b.programs[1], "-S")
	web.Asked = true
	apply(t, f, s.config)
	for _, c := range calls {
		s.wantReached(t, c.from, c.network, c.to, c.reached)
	}
	for _, iptables := range b.programs {
		// Another's drop of the same holds, and what it flushes comes back.
		s.host.Run(t, iptables, "-I", "INPUT", "-p", "udp", "--dport", "53", "-j", "DROP")
	}
	s.wantReached(t, s.c["web2"], "udp", "[2001:db8:1::1]:53", false)
	for _, iptables := range b.programs {
		s.host.Run(t, iptables, "-D", "INPUT", "-p", "udp", "--dport", "53", "-j", "DROP")
	}
	web.Asked = false
	apply(t, f, s.config)
	if after := s.host.Run(t, b.programs[0], "-S") + s.host.Run(t, b.programs[1], "-S"); after != before {
		t.Errorf("left behind:\n%s", after)
	}
}
