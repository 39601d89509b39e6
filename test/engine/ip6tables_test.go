//go:build engine

package engine_test

import (
	"bufio"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testengine"
	"github.com/v6net/v6net/internal/testnet"
)

// The main path with rules of ip6tables in place of nftables, by the plugin's own
// programs; a change between the two while a container runs leaves nothing of the
// former, and the container reachable.
func TestIP6Tables(t *testing.T) {
	onEveryEngine(t, testengine.Options{Args: []string{"--experimental", "--ip6tables"}}, func(t *testing.T, l *lab) {
		l.installPlugin(t)
		l.useFirewall(t, "ip6tables")
		t.Run("network", func(t *testing.T) { testMainPath(t, l) })
		if left := ip6tablesRules(t, l.host); left != "" {
			t.Errorf("left after the last network:\n%s", left)
		}

		l.network(t, "net")
		l.container(t, "published", "--network", "net", "-p", "8080:80")
		address := l.ipv6(t, "published", "net")
		check := func(firewall string) {
			t.Helper()
			mustFetch(t, l.far, bracket(address))
			mustFetch(t, l.far, hostIPv4+":8080")
			mustNotFetch(t, l.far, bracket(address)+":81", l.ipv4(t, "published", "net"))
			explained := l.v6net(t, "firewall", "explain", farIPv6, address, "81")
			tables := l.host.Run(t, "nft", "list", "tables")
			rules := ip6tablesRules(t, l.host)
			switch firewall {
			case "ip6tables":
				if rules == "" || strings.Contains(tables, "v6net") || !strings.Contains(explained, "ip6tables mangle, chain v6net-inbound") {
					t.Errorf("with %s there are the tables\n%s\nand the rules\n%s\n%s", firewall, tables, rules, explained)
				}
			default:
				if rules != "" || !strings.Contains(tables, "table inet v6net") || !strings.Contains(explained, "inet v6net, chain inbound") {
					t.Errorf("with %s there are the tables\n%s\nand the rules\n%s\n%s", firewall, tables, rules, explained)
				}
			}
			counted := l.status(t).Networks[0].Firewall
			if counted == nil || counted.LetIn == 0 || counted.DeniedIn == 0 {
				t.Errorf("with %s is counted: %+v", firewall, counted)
			}
		}
		check("ip6tables")
		testNoRogueRouter(t, l)
		if out, err := l.engine.Try(t.Context(), "network", "create", "-d", pluginName, "--ipam-driver", pluginName, "--ipv6",
			"--subnet", "fd00:10::/64", "-o", "masquerade=nptv6", "-o", "nptv6=2001:db8:77::/64", "translated"); err == nil || !strings.Contains(out, "needs nftables") {
			t.Errorf("a translated prefix with ip6tables: %v\n%s", err, out)
		}
		for _, firewall := range []string{"nftables", "ip6tables", "auto"} {
			l.useFirewall(t, firewall)
			check(firewall)
		}
	})
}

// rogue sends what only routers and DHCP servers do, and then what anybody may.
const rogue = `
from scapy.all import *
frame = Ether(src=get_if_hwaddr("eth0"), dst="33:33:00:00:00:01")/IPv6(src="fe80::1234:5678:9abc:def0", dst="ff02::1", hlim=255)
ra = ICMPv6ND_RA(routerlifetime=1800)/ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64)
for p in [ra, UDP(sport=547, dport=546)/DHCP6_Reply(), UDP(dport=7)]: sendp(frame/p, iface="eth0", verbose=False)
`

// testNoRogueRouter: a container is no router and no DHCP server to its neighbour, on
// a bridge whose packets ip6tables is not shown.
func testNoRogueRouter(t *testing.T, l *lab) {
	t.Helper()
	l.host.Run(t, "sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do ! [ -e $f ] || echo 0 >$f; done")
	l.container(t, "rogue", "--network", "net")
	mac := l.inspect(t, "rogue", "{{range .NetworkSettings.Networks}}{{.MacAddress}}{{end}}")
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	sees := l.host.Command(ctx, append(l.enter(t, "published"), "tcpdump", "-n", "-l", "-c", "1", "-i", "eth0",
		"ether src "+mac+" and (udp port 7 or udp port 546 or (icmp6 and ip6[40] == 134))")...)
	var seen strings.Builder
	sees.Stdout = &seen
	says, err := sees.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sees.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(says)
	for lines.Scan() && !strings.Contains(lines.Text(), "listening on") {
	}
	l.in(t, "rogue", "/usr/bin/python3", "-c", rogue)
	for lines.Scan() {
	}
	if err := sees.Wait(); err != nil || !strings.Contains(seen.String(), "> ff02::1.7: ") {
		t.Errorf("the first that a neighbour sees of a rogue router is %q, %v", seen.String(), err)
	}
	l.docker(t, "rm", "-f", "rogue")
}

// useFirewall starts the plugin anew with the setting.
func (l *lab) useFirewall(t *testing.T, firewall string) {
	t.Helper()
	l.docker(t, "plugin", "disable", "-f", pluginName)
	l.docker(t, "plugin", "set", pluginName, "V6NET_FIREWALL="+firewall)
	l.docker(t, "plugin", "enable", pluginName)
}

// ip6tablesRules are ours, but for the one that accepts what we have vouched for.
func ip6tablesRules(t *testing.T, host *testnet.Host) string {
	t.Helper()
	var ours []string
	for _, program := range []string{"ip6tables-save", "iptables-save"} {
		for line := range strings.Lines(host.Run(t, program)) {
			if strings.Contains(line, "v6net-") {
				ours = append(ours, line)
			}
		}
	}
	return strings.Join(ours, "")
}
