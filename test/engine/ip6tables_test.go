//go:build engine

package engine_test

import (
	"strings"
	"testing"

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
