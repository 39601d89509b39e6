//go:build netns

package nft

import (
	"net/netip"
	"testing"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// A container on two networks has its default route by one of them, and is asked on the
// other: its answers leave by the first, from its address on the second.
func TestAnswersByAnotherNetwork(t *testing.T) { eachKind(t, testAnswersByAnotherNetwork) }

func testAnswersByAnotherNetwork(t *testing.T, b backend) {
	s := b.site(t)
	b.policyDrop(t, s.host)
	const port, mac, addr6, addr4 = spec.VethPrefix + "two", "02:00:00:00:04:09", "2001:db8:4::9", "172.18.4.9"
	both := s.c["web2"] // its default route is by web
	testnet.Connect(t, s.host, port, both, "eth1")
	ip(t, s.host, "link set "+port+" master open")
	ip(t, both, "link set eth1 down", "link set eth1 address "+mac, "link set eth1 up", "addr add "+addr4+"/24 dev eth1", "addr add "+addr6+"/64 nodad dev eth1")
	for _, conf := range []string{"all", "default", "web"} {
		s.host.Sysctl(t, "net/ipv4/conf/"+conf+"/rp_filter", "0")
	}
	own := []netip.Addr{netip.MustParseAddr(addr6), netip.MustParseAddr(addr4)}
	web, open4 := &s.config.Networks[0], &s.config.Networks[3]
	open4.Live = append(open4.Live, own...)
	open4.Containers = append(open4.Containers, firewall.Container{Port: port, MAC: mac, Addresses: own})
	f := s.open(t)
	apply(t, f, s.config)
	// Who listens on no address answers from that of the route.
	listen(t, both, "udp", "["+addr6+"]:54")
	listen(t, both, "udp", addr4+":54")
	calls := []struct{ network, to string }{{"tcp", "[" + addr6 + "]:80"}, {"udp", "[" + addr6 + "]:54"}, {"tcp", addr4 + ":80"}, {"udp", addr4 + ":54"}}
	for _, c := range calls {
		s.wantReached(t, s.outside, c.network, c.to, false) // or the test proves nothing
	}
	web.Containers[0].Elsewhere = own
	apply(t, f, s.config)
	// It asks for its gateway from the address on the other network.
	ip(t, both, "neigh flush dev eth0")
	for _, c := range calls {
		s.wantReached(t, s.outside, c.network, c.to, true)
	}
}

// What has a link-local source is forwarded neither way, nor under the host's address.
func TestLinkLocalIsNotForwarded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const local = "169.254.7.7"
	for _, conf := range []string{"all", "default", "web"} {
		s.host.Sysctl(t, "net/ipv4/conf/"+conf+"/rp_filter", "0")
	}
	ip(t, s.c["web2"], "addr add "+local+"/16 dev eth0")
	ip(t, s.host, "addr add 169.254.1.1/16 dev web")
	// Who sends from there need not ask for the gateway, which he would not be told.
	ip(t, s.c["web2"], "neigh replace 172.18.1.1 lladdr "+s.host.MAC(t, "web")+" dev eth0")
	got := count(t, s.outside, outside4+":5000")
	f := open(t, s.host)
	apply(t, f, s.config)
	s.host.Run(t, "nft", "insert rule inet v6net forward iifname web ip saddr 169.254.0.0/16 accept; add rule inet v6net postrouting ip saddr 169.254.0.0/16 masquerade")
	send(t, s.c["web2"], local+":0", outside4+":5000")
	if !eventually(func() bool { return got.Load() == 1 }) {
		t.Fatal("without the rule nothing is forwarded, and the test would prove nothing")
	}
	s.config.Networks[0].Masquerade = append(s.config.Networks[0].Masquerade, prefixes("169.254.0.0/16")...) // as a rule of the host's own would
	f = open(t, s.host)
	apply(t, f, s.config)
	send(t, s.c["web2"], local+":0", outside4+":5000")
	send(t, s.c["web2"], "172.18.1.2:0", outside4+":5000") // comes last
	if !eventually(func() bool { return got.Load() >= 2 }) {
		t.Fatal("nothing comes")
	}
	if n := got.Load(); n != 2 {
		t.Errorf("%d datagrams from a link-local address have left", n-2)
	}
	ip(t, s.c["web3"], "addr add 169.254.7.8/16 dev eth0")
	s.wantReached(t, s.c["web3"], "udp", local+":53", true) // on the link it is an address as any
}
