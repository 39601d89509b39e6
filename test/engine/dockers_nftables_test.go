//go:build engine

package engine_test

import "testing"

// An engine that has its own rules in nftables, too: its networks work and ours do, and
// neither lets anybody reach the other's containers by what is not published. First
// ours are there, which its start finds in place, and then its own.
func testDockersNFTables(t *testing.T, l *lab) {
	// The engine that ran until now has turned IPv4 forwarding on, and so has given
	// FORWARD a policy of drop, which outlives it.
	policy := func(is string) { l.host.Run(t, "iptables", "-P", "FORWARD", is) }
	defer func() {
		l.engine.RestartWith(t)
		policy("DROP")
	}()
	t.Run("networks", func(t *testing.T) {
		l.network(t, "ours")
		l.containerWith(t, "ours", twoPorts, "--network", "ours", "--restart", "always", "-p", "8080:80")
		l.engine.RestartWith(t, "--firewall-backend=nftables")
		// It wants to find IPv6 forwarding on, as our network has set it.
		l.anyNetwork(t, "theirs", "--ipv6", "--subnet", "fd00:99::/64")
		l.containerWith(t, "theirs", twoPorts, "--network", "theirs", "-p", "8081:80")
		l.host.Run(t, "nft", "list", "table", "ip6", "docker-bridges") // it is there

		ours, theirs := "", bracket(l.ipv6(t, "theirs", "theirs"))
		eventually(t, "restart of the container", func() bool { ours = bracket(l.ipv6(t, "ours", "ours")); return ours != "[]" })
		mustFetch(t, l.far, ours)
		mustFetch(t, l.far, hostIPv4+":8080") // whatever FORWARD's policy is
		policy("ACCEPT")                      // as Docker's documentation has it, for its own networks
		check := func(t *testing.T) {
			for _, address := range []string{ours, hostIPv4 + ":8080", bracket(hostIPv6) + ":8081", hostIPv4 + ":8081"} {
				mustFetch(t, l.far, address)
			}
			if _, err := l.fetchIn(t, "theirs", ours); err != nil {
				t.Errorf("a published port, from a network of the engine's own: %v", err)
			}
			mustFetch(t, l.host, ours+":81") // it is there
			mustNotFetch(t, l.far, ours+":81")
			l.mustNotFetchIn(t, "theirs", ours+":81", l.ipv4(t, "ours", "ours")+":81")
			l.mustNotFetchIn(t, "ours", theirs, theirs+":81", l.ipv4(t, "theirs", "theirs")+":81")
		}
		t.Run("ours were first", check)
		t.Run("doctor", func(t *testing.T) { testDoctor(t, l) })
		l.docker(t, "plugin", "disable", "-f", pluginName)
		l.host.Run(t, "nft", "delete table inet v6net; delete table ip v6net; delete table bridge v6net") // as if it had never been
		l.docker(t, "plugin", "enable", pluginName)
		t.Run("theirs were first", check)
	})
}
