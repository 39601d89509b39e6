//go:build netns

package nft

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// TestTraffic is the table of who reaches whom.
func TestTraffic(t *testing.T) { eachBackend(t, testTraffic) }

func testTraffic(t *testing.T, b backend) {
	for _, tc := range []struct {
		name    string
		prepare func(testing.TB, *testnet.Host)
	}{
		{"alone", func(testing.TB, *testnet.Host) {}},
		{"beside Docker", func(t testing.TB, h *testnet.Host) { b.policyDrop(t, h); b.dockerUser(t, h) }},
		{"beside a forward policy of drop, frames not shown", func(t testing.TB, h *testnet.Host) {
			b.policyDrop(t, h)
			bridgeNetfilter(t, h, "0")
		}},
	} {
		if tc.name == "alone" && !b.frames {
			continue // nothing of others is in its tables, which is what is new with nftables
		}
		t.Run(tc.name, func(t *testing.T) {
			s := b.site(t)
			for _, port := range []string{"v6nvopen2", "v6nvopen3"} { // as the engine has them without ICC
				ip(t, s.host, "link set "+port+" type bridge_slave isolated on")
			}
			bridgeNetfilter(t, s.host, "1")
			tc.prepare(t, s.host)
			apply(t, s.open(t), s.config)
			s.check(t)
		})
	}
}

// checkExplained compares what is said of a call with what becomes of it.
func (s *site) checkExplained(t *testing.T, from *testnet.Host, protocol string, to netip.AddrPort, reached bool) {
	t.Helper()
	src := netip.MustParseAddr(outside6)
	if to.Addr().Is4() {
		src = netip.MustParseAddr(outside4)
	}
	for _, n := range s.config.Networks {
		for _, c := range n.Containers {
			for _, a := range c.Addresses {
				if c.Port == spec.VethPrefix+from.Name() && a.Is4() == to.Addr().Is4() {
					src = a
				}
			}
		}
	}
	if from == s.host {
		return // whom nothing judges
	}
	var local []netip.Addr
	for field := range strings.FieldsSeq(s.host.Run(t, "ip", "-brief", "addr")) {
		if p, err := netip.ParsePrefix(field); err == nil {
			local = append(local, p.Addr())
		}
	}
	shown := s.framesShown(t)
	j, err := s.config.Explain(spec.Call{From: src, To: to.Addr(), Protocol: protocol, Port: to.Port()},
		firewall.Host{Addresses: local, UnjudgedPorts: !s.frames, ShownFrames4: shown, ShownFrames6: shown})
	if err != nil {
		t.Fatal(err)
	}
	comes := j.Verdict == spec.Accepted && !strings.Contains(j.Why, "no connection comes of it")
	if comes && !reached || j.Verdict == spec.Dropped && reached {
		t.Errorf("%s from %s to %s reached: %v, and is explained as %s: %s (%s: %s)", protocol, from.Name(), to, reached, j.Verdict, j.Why, j.Chain, j.Rule)
	}
	if j.Verdict == spec.Accepted && !comes && reached || j.Verdict == spec.Unjudged && strings.Contains(j.Why, "nobody answers") && reached {
		t.Errorf("%s from %s to %s is answered, and is explained as %s: %s", protocol, from.Name(), to, j.Verdict, j.Why)
	}
}

// checkLoopbackIsClosed has a container send to 127.0.0.1 on the wire, which
// route_localnet on the bridge would let in.
func (s *site) checkLoopbackIsClosed(t *testing.T) {
	t.Helper()
	const service = "127.0.0.1:7777"
	listen(t, s.host, "tcp", service)
	if _, err := insist(t.Context(), s.host, "tcp", service); err != nil {
		t.Fatalf("the host's own service on loopback: %v", err)
	}
	for _, attacker := range []struct {
		*testnet.Host
		by, via, own string
	}{{s.c["web2"], "eth0", "172.18.1.1", "172.18.1.2"}, {s.outside, "lan0", host4, outside4}} {
		attacker.Sysctl(t, "net/ipv4/conf/all/route_localnet", "1")
		ip(t, attacker.Host, "addr del 127.0.0.1/8 dev lo", fmt.Sprintf("route add 127.0.0.0/8 via %s dev %s src %s", attacker.via, attacker.by, attacker.own), "rule add to 127.0.0.0/8 lookup main pref 0")
		for _, at := range []string{service, "127.0.0.1:8080", "127.0.0.1:8086"} { // published on every address, and on that alone
			if got, err := call(t.Context(), attacker.Host, "tcp", at); err == nil && got != "" {
				t.Errorf("%s reached the host's %s as %q", attacker.Name(), at, got)
			}
		}
	}
}

// bridgeNetfilter says whether bridged frames meet the firewall (br_netfilter).
// Without that module they never do.
func bridgeNetfilter(t testing.TB, h *testnet.Host, value string) {
	t.Helper()
	for _, key := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		path := "net/bridge/" + key
		if _, err := os.Stat("/proc/sys/" + path); err != nil {
			t.Logf("no br_netfilter on this machine: %v", err)
			return
		}
		h.Sysctl(t, path, value)
	}
}

func (s *site) check(t *testing.T) {
	const nobody = ""
	host, outside := s.host, s.outside
	npt2, npt3 := outsideOf(t, "fd00:a::2"), outsideOf(t, "fd00:a::3")
	var calls sync.WaitGroup
	for _, tc := range []struct {
		requirement string
		from        *testnet.Host
		network     string
		to          string
		seen        string // the address the server sees; empty: it is not reached
	}{
		{"egress, global", s.c["web2"], "tcp", "[" + outside6 + "]:80", "2001:db8:1::2"},
		{"egress, IPv4 masqueraded", s.c["web2"], "tcp", outside4 + ":80", host4},
		{"egress, ULA masqueraded", s.c["ula2"], "tcp", "[" + outside6 + "]:80", host6},
		{"egress, UDP", s.c["ula2"], "udp", "[" + outside6 + "]:53", host6},
		{"egress of a network with inbound none", s.c["none2"], "tcp", "[" + outside6 + "]:80", "2001:db8:5::2"},
		{"egress of an open network", s.c["open2"], "tcp", "[" + outside6 + "]:80", "2001:db8:4::2"},

		{"published, IPv6", outside, "tcp", "[2001:db8:1::2]:80", outside6},
		{"published, IPv6, UDP", outside, "udp", "[2001:db8:1::2]:53", outside6},
		{"published is that port alone", outside, "tcp", "[2001:db8:1::2]:81", nobody},
		{"published is that protocol alone", outside, "tcp", "[2001:db8:1::2]:53", nobody},
		{"published is that container alone", outside, "tcp", "[2001:db8:1::3]:80", nobody},
		{"published, translated", outside, "tcp", host4 + ":8080", outside4},
		{"published, translated, UDP", outside, "udp", host4 + ":5353", outside4},
		{"published on every address", outside, "tcp", "192.0.2.2:8080", outside4},
		{"published on one address", outside, "tcp", host4 + ":8081", outside4},
		{"published on another address", outside, "tcp", "192.0.2.2:8082", outside4},
		{"published, translated to a ULA", outside, "tcp", "[" + host6 + "]:4430", outside6},
		{"translated ports are not open untranslated", outside, "tcp", "172.18.1.2:80", nobody},
		{"translated ULA ports are not open untranslated", outside, "tcp", "[fd00:2::2]:80", nobody},
		{"unpublished, private", outside, "tcp", "172.18.1.2:81", nobody},

		{"translated for the host itself", host, "tcp", host4 + ":8080", host4},
		{"translated for the host itself, IPv6", host, "tcp", "[" + host6 + "]:4430", host6},
		{"translated for the host's loopback address", host, "tcp", "127.0.0.1:8080", "172.18.1.1"},
		{"published on the loopback address", host, "tcp", "127.0.0.1:8086", "172.18.1.1"},
		{"a loopback address of a service of the host's own", host, "udp", "127.0.0.53:5353", "127.0.0.1"},
		{"the host reaches its containers", host, "tcp", "[2001:db8:1::2]:81", "2001:db8:1::1"},
		{"the host reaches its internal containers", host, "tcp", "[2001:db8:3::2]:81", "2001:db8:3::1"},

		{"a network's name server", s.c["web2"], "udp", "[2001:db8:1::1]:53", "2001:db8:1::2"},
		{"a network's name server, TCP", s.c["web2"], "tcp", "[2001:db8:1::1]:53", "2001:db8:1::2"},
		{"a network's name server, IPv4", s.c["web2"], "udp", "172.18.1.1:53", "172.18.1.2"},
		{"an internal network's name server", s.c["internal2"], "udp", "[2001:db8:3::1]:53", "2001:db8:3::2"},
		{"a network's name server is the host's, too", host, "udp", "[2001:db8:1::1]:53", "2001:db8:1::1"},
		{"a name server is not the world's", outside, "udp", "[2001:db8:1::1]:53", nobody},
		{"a name server is not the world's, TCP", outside, "tcp", "[2001:db8:1::1]:53", nobody},
		{"a name server is not the world's, IPv4", outside, "udp", "172.18.1.1:53", nobody},
		{"a name server is not another network's", s.c["ula2"], "udp", "[2001:db8:1::1]:53", nobody},
		{"a name server is not another network's, TCP", s.c["ula2"], "tcp", "172.18.1.1:53", nobody},
		{"a name server is not an internal network's", s.c["internal2"], "udp", "[2001:db8:1::1]:53", nobody},
		{"a name server of the host's own", outside, "udp", "[" + host6 + "]:53", outside6},
		{"a name server of the host's own, for a container", s.c["web2"], "tcp", "[" + host6 + "]:53", "2001:db8:1::2"},

		{"hairpin from the same network", s.c["web3"], "tcp", host4 + ":8080", "172.18.1.1"},
		{"hairpin to itself", s.c["web2"], "tcp", host4 + ":8080", "172.18.1.1"},
		{"hairpin, ULA", s.c["ula3"], "tcp", "[" + host6 + "]:4430", "fd00:2::1"},
		{"hairpin where containers do not reach each other", s.c["open3"], "tcp", host4 + ":8084", map[bool]string{false: "172.18.4.1", true: nobody}[s.framesShown(t)]},
		{"the container itself", s.c["web2"], "tcp", "[2001:db8:1::2]:81", "2001:db8:1::2"},
		{"nobody on the same network", s.c["web2"], "tcp", "[2001:db8:1::77]:81", nobody},
		{"nobody on the same network, IPv4", s.c["web2"], "tcp", "172.18.1.77:81", nobody},
		{"containers that do not reach each other", s.c["open3"], "tcp", "[2001:db8:4::2]:81", nobody},
		{"translated for another network", s.c["mutual2"], "tcp", host4 + ":8080", "172.18.1.1"},
		{"published for another network", s.c["ula2"], "tcp", "[2001:db8:1::2]:80", "fd00:2::2"},

		{"containers of a network reach each other", s.c["web3"], "tcp", "[2001:db8:1::2]:81", "2001:db8:1::3"},
		{"containers of a network reach each other, IPv4", s.c["web3"], "tcp", "172.18.1.2:81", "172.18.1.3"},
		{"containers of an internal network reach each other", s.c["internal3"], "tcp", "[2001:db8:3::2]:81", "2001:db8:3::3"},
		{"isolated networks do not reach each other", s.c["ula2"], "tcp", "[2001:db8:1::2]:81", nobody},
		{"isolated networks do not reach each other, IPv4", s.c["ula2"], "tcp", "172.18.1.2:81", nobody},
		{"an isolated network does not reach another", s.c["web2"], "tcp", "[2001:db8:6::2]:80", nobody},
		{"an isolated network is not reached by another", s.c["mutual2"], "tcp", "[2001:db8:1::2]:81", nobody},
		{"networks that are not isolated reach each other", s.c["mutual2"], "tcp", "[2001:db8:7::2]:81", "2001:db8:6::2"},
		{"isolation precedes inbound open", s.c["web2"], "tcp", "[2001:db8:4::2]:81", nobody},

		{"internal: nothing out", s.c["internal2"], "tcp", "[" + outside6 + "]:80", nobody},
		{"internal: nothing out, IPv4", s.c["internal2"], "tcp", outside4 + ":80", nobody},
		{"internal: nothing in", outside, "tcp", "[2001:db8:3::2]:80", nobody},
		{"internal: not even to what is published", s.c["internal2"], "tcp", "[2001:db8:1::2]:80", nobody},

		{"nat-unprotected: any port of the container's own address", outside, "tcp", "172.18.8.2:81", outside4},
		{"nat-unprotected: any port of the container's own address, IPv6", outside, "tcp", "[fd00:8::2]:81", outside6},
		{"nat-unprotected: translated as well", outside, "tcp", host4 + ":8088", outside4},
		{"egress under a chosen address", s.c["direct2"], "tcp", outside4 + ":80", "192.0.2.2"},
		{"egress under a chosen address, IPv6", s.c["direct2"], "tcp", "[" + outside6 + "]:80", "2001:db8::2"},
		{"nat-unprotected: isolation precedes it", s.c["web2"], "tcp", "172.18.8.2:81", nobody},

		{"prefix translated: egress", s.c["npt2"], "tcp", "[" + outside6 + "]:80", npt2},
		{"prefix translated: egress, UDP", s.c["npt3"], "udp", "[" + outside6 + "]:53", npt3},
		{"prefix translated: published", outside, "tcp", "[" + npt2 + "]:80", outside6},
		{"prefix translated: published, UDP", outside, "udp", "[" + npt2 + "]:53", outside6},
		{"prefix translated: published is that port alone", outside, "tcp", "[" + npt2 + "]:81", nobody},
		{"prefix translated: published is that container alone", outside, "tcp", "[" + npt3 + "]:80", nobody},
		{"prefix translated: an address that nobody has", outside, "tcp", "[2001:db8:a::bad]:80", nobody},
		{"prefix translated: hairpin", s.c["npt3"], "tcp", "[" + npt2 + "]:80", npt3},
		{"prefix translated: hairpin to itself", s.c["npt2"], "tcp", "[" + npt2 + "]:80", npt2},
		{"prefix translated: from another network", s.c["web2"], "tcp", "[" + npt2 + "]:80", "2001:db8:1::2"},
		{"prefix translated: from another network, unpublished", s.c["web2"], "tcp", "[" + npt2 + "]:81", nobody},
		{"prefix translated: the inside address is not known outside", outside, "tcp", "[fd00:a::2]:80", nobody},
		{"prefix translated: the inside address is not known outside, UDP", outside, "udp", "[fd00:a::2]:53", nobody},
		{"prefix translated: the inside address is not known to another network", s.c["web2"], "tcp", "[fd00:a::2]:80", nobody},
		{"prefix translated: directly", s.c["npt3"], "tcp", "[fd00:a::2]:81", "fd00:a::3"},
		{"prefix translated: the host", host, "tcp", "[fd00:a::2]:81", "fd00:a::1"},

		{"internal: the host is reached", s.c["internal2"], "tcp", "[2001:db8:3::1]:7070", "2001:db8:3::2"},
		{"isolated: the host is not reached", s.c["alone2"], "tcp", "[fd00:9::1]:7070", nobody},
		{"isolated: the host is not reached, IPv4", s.c["alone2"], "tcp", "172.18.9.1:7070", nobody},
		{"isolated: nor by another of its addresses", s.c["alone2"], "tcp", "[" + host6 + "]:7070", nobody},
		{"isolated: nothing out", s.c["alone2"], "tcp", outside4 + ":80", nobody},
		{"isolated: containers reach each other", s.c["alone3"], "tcp", "[fd00:9::2]:81", "fd00:9::3"},
		{"isolated: containers reach each other, IPv4", s.c["alone3"], "tcp", "172.18.9.2:81", "172.18.9.3"},

		{"inbound open", outside, "tcp", "[2001:db8:4::2]:81", outside6},
		{"inbound none", outside, "tcp", "[2001:db8:5::2]:80", nobody},
		{"inbound none, from a network that is not isolated", s.c["mutual2"], "tcp", "[2001:db8:5::2]:80", nobody},
	} {
		if !s.translates && strings.HasPrefix(tc.requirement, "prefix translated: the inside address") {
			continue // it is the only one
		}
		if s.translates || !strings.HasPrefix(tc.requirement, "prefix translated: ") {
			s.checkExplained(t, tc.from, tc.network, netip.MustParseAddrPort(tc.to), tc.seen != nobody)
		} else if !strings.Contains(tc.to, "fd00:a:") {
			tc.seen = nobody // it is cut off
		}
		calls.Go(func() {
			reach := insist
			if tc.seen == nobody {
				reach = call
			}
			switch got, err := reach(t.Context(), tc.from, tc.network, tc.to); {
			case err != nil:
				t.Errorf("%s: %s from %s to %s: %v", tc.requirement, tc.network, tc.from.Name(), tc.to, err)
			case got != tc.seen:
				t.Errorf("%s: %s from %s to %s: seen as %q, want %q", tc.requirement, tc.network, tc.from.Name(), tc.to, got, tc.seen)
			}
		})
	}
	calls.Wait()
	if _, err := insist(t.Context(), host, "tcp", host4+":8085"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("inbound none is translated: %v, want connection refused by the host", err)
	}
	if _, err := insist(t.Context(), outside, "tcp", host4+":8086"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("published on the loopback address is not for others: %v, want connection refused by the host", err)
	}
	s.checkLoopbackIsClosed(t)
	for _, tc := range []struct {
		requirement string
		from        *testnet.Host
		to          string
		answered    bool
	}{
		{"prefix translated", outside, npt2, s.translates},
		{"prefix translated, outbound", s.c["npt2"], outside6, s.translates},
		{"RFC 4890 §4.3.1", outside, "2001:db8:1::3", true},
		{"inbound open", outside, "2001:db8:4::2", true},
		{"internal", outside, "2001:db8:3::2", false},
		{"inbound none", outside, "2001:db8:5::2", false},
		{"isolated", s.c["ula2"], "2001:db8:1::3", false},
		{"isolated, IPv4", s.c["ula2"], "172.18.1.3", false},
		{"inbound none, from a network that is not isolated", s.c["mutual2"], "2001:db8:5::2", false},
		{"masqueraded", outside, "172.18.1.3", false},
		{"a neighbour", s.c["web2"], "2001:db8:1::3", true},
		{"ICC off", s.c["open3"], "2001:db8:4::2", false},
	} {
		tries := "1"
		if tc.answered {
			tries = "10"
		}
		err := tc.from.Command(t.Context(), "ping", "-c", tries, "-i", "0.2", "-W", "1", tc.to).Run()
		if answered := err == nil; answered != tc.answered {
			t.Errorf("%s: echo request from %s to %s answered: %v, want %v", tc.requirement, tc.from.Name(), tc.to, answered, tc.answered)
		}
		if s.translates || !strings.HasPrefix(tc.requirement, "prefix translated") {
			s.checkExplained(t, tc.from, "ping", netip.AddrPortFrom(netip.MustParseAddr(tc.to), 0), tc.answered)
		}
	}
}

// framesShown reports whether bridged frames meet the host's firewall.
func (s *site) framesShown(t testing.TB) bool {
	t.Helper()
	out, err := s.host.Command(t.Context(), "cat", "/proc/sys/net/bridge/bridge-nf-call-ip6tables").Output()
	return err == nil && strings.TrimSpace(string(out)) == "1"
}

// Another engine's bridge judges for itself who may enter: we neither vouch
// for our packets there nor drop them.
func TestBridgesOfOthers(t *testing.T) { eachKind(t, testBridgesOfOthers) }

func testBridgesOfOthers(t *testing.T, b backend) {
	s := b.site(t)
	other := testnet.New(t, "other")
	ip(t, s.host, "link add docker0 type bridge", "link set docker0 up", "addr add 172.17.0.1/16 dev docker0")
	testnet.Connect(t, s.host, "pother", other, "eth0")
	ip(t, s.host, "link set pother master docker0")
	ip(t, other, "addr add 172.17.0.2/16 dev eth0", "route add default via 172.17.0.1")
	listen(t, other, "tcp", ":80")
	apply(t, s.open(t), s.config)
	s.wantReached(t, s.c["web2"], "tcp", "172.17.0.2:80", true) // not dropped
	b.policyDrop(t, s.host)
	apply(t, s.open(t), s.config)
	s.wantReached(t, s.c["web2"], "tcp", "172.17.0.2:80", false) // not vouched for
	if seen, err := call(t.Context(), other, "tcp", "172.18.1.2:81"); err != nil || seen != "" {
		t.Errorf("another engine's container reaches an unpublished port: %q, %v", seen, err)
	}
	if seen, err := insist(t.Context(), other, "tcp", host4+":8080"); err != nil || seen != "172.17.0.2" {
		t.Errorf("another engine's container does not reach a published port: %q, %v", seen, err)
	}
}

// A connection lives on while rules change around it, and no new one fails.
func TestConnectionsSurviveApply(t *testing.T) { eachKind(t, testConnectionsSurviveApply) }

func testConnectionsSurviveApply(t *testing.T, b backend) {
	s := b.site(t)
	b.policyDrop(t, s.host)
	f := s.open(t)
	apply(t, f, s.config)
	for _, tc := range []struct {
		from *testnet.Host
		to   string
	}{
		{s.outside, host4 + ":8080"},
		{s.outside, "[2001:db8:1::2]:80"},
		{s.c["ula2"], "[" + outside6 + "]:80"},
	} {
		conn, err := tc.from.DialContext(t.Context(), "tcp", tc.to)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		t.Run(tc.to, func(t *testing.T) {
			done := make(chan error, 1)
			go func() { done <- s.reload(t, f, 20) }()
			for i := 0; ; i++ {
				time.Sleep(time.Millisecond) // the rest of the machine is to change rules
				if err := echo(conn, fmt.Sprintf("%08d\n", i)); err != nil {
					t.Fatalf("echo %d while rules change: %v", i, err)
				}
				if _, err := call(t.Context(), tc.from, "tcp", tc.to); err != nil {
					t.Fatalf("new connection %d while rules change: %v", i, err)
				}
				select {
				case err := <-done:
					if err != nil {
						t.Fatal(err)
					}
					t.Logf("%d echoes and new connections", i)
					return
				default:
				}
			}
		})
	}
}

// reload changes elements and replaces the table by turns, so many times.
func (s *site) reload(t testing.TB, f kernel, times int) error {
	for i := range times {
		c := s.config
		c.Parents = append([]string{fmt.Sprintf("eth%d", i+1)}, c.Parents...)
		r := build(t, c)
		if i%2 == 0 {
			last := &r.Tables[0].Chains[len(r.Tables[0].Chains)-1]
			last.Rules = append(slices.Clone(last.Rules), `iifname "nobody" drop`)
		}
		if err := f.Apply(t.Context(), r); err != nil {
			return err
		}
	}
	return nil
}

func echo(conn net.Conn, text string) error {
	if err := conn.SetDeadline(time.Now().Add(longest)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(text)); err != nil {
		return err
	}
	// What came first is the greeting; an answer ends with the text.
	var got strings.Builder
	var b [64]byte
	for !strings.HasSuffix(got.String(), text) {
		n, err := conn.Read(b[:])
		if err != nil {
			return err
		}
		got.Write(b[:n])
	}
	return nil
}
