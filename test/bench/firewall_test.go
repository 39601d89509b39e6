//go:build bench

package bench_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testengine"
)

const (
	firewallTurns = 16                     // of each firewall, one after the other
	publishTurns  = 2                      // the first of them, in which one port more is published
	connectTime   = 500 * time.Millisecond // of each turn
	sendSeconds   = 1                      // likewise
	// firstPort is the first that is published; the container's has the same number.
	firstPort = 20000
)

// published is how many ports are, of one container.
var published = []int{10, 1000, 10000}

// measureFirewall has a machine outside open connections to ports of a container that
// are published, and send over one, past v6net's rules and those of others, which take
// turns. Each has namespaces of its own; what is the best of its turns counts, since what
// else the machine does can only take away from it.
func measureFirewall(t *testing.T, r *report) {
	var docker captured
	t.Run("capture", func(t *testing.T) {
		docker = captureDocker(t)
		r.Engine = docker.engine
	})
	if t.Failed() {
		return
	}
	results := map[int]map[string]result{}
	t.Run("turns", func(t *testing.T) { measurePublished(t, docker, results) })
	if t.Failed() {
		return
	}
	for _, n := range published {
		addFirewallRows(r, n, results[n])
	}
	least, most := published[0], published[len(published)-1]
	for _, name := range []string{ours, routed} {
		for _, c := range []struct {
			what, unit string
			of         func(result) float64
		}{
			{"new connections", "/s", func(r result) float64 { return r.connections }},
			{"throughput", "Gbit/s", func(r result) float64 { return r.gbits }},
		} {
			r.add(row{What: fmt.Sprintf("%s, %d ports, %s", c.what, most, name), Value: c.of(results[most][name]), Unit: c.unit,
				Peer: fmt.Sprintf("itself with %d", least), Beside: c.of(results[least][name]), Wanted: ratioAtLeast(0.9)})
		}
	}
}

// result is the best of what one firewall has done.
type result struct {
	connections float64 // a second
	gbits       float64
	publish     float64 // milliseconds for one port more
}

// The firewalls, as the report calls them.
const (
	ours         = "v6net, translated ports"
	routed       = "v6net, containers' own addresses"
	oursIP6      = "v6net by ip6tables, translated ports"
	dockerNFT    = "Docker's rules"
	dockerLegacy = "Docker's rules, iptables-legacy"
	ipv6nat      = "docker-ipv6nat's rules"
)

func addFirewallRows(r *report, n int, results map[string]result) {
	var atLeast *goal
	switch n {
	case published[0]:
		atLeast = ratioAtLeast(1)
	case published[len(published)-1]:
		atLeast = ratioAtLeast(3)
	}
	// Known connections pass before anybody looks for ports, but for docker-ipv6nat.
	level, beyond := ratioAtLeast(0.95), ratioAtLeast(0.95)
	if n == published[len(published)-1] {
		beyond = atLeast
	}
	type pair struct {
		who, peer string
		wanted    *goal
	}
	at := fmt.Sprintf(", %d ports, ", n)
	for _, c := range []pair{{ours, dockerNFT, atLeast}, {ours, dockerLegacy, nil}, {ours, ipv6nat, atLeast}, {routed, dockerNFT, atLeast}, {oursIP6, dockerNFT, atLeast}} {
		r.add(row{What: "new connections" + at + c.who, Value: results[c.who].connections, Unit: "/s", Peer: c.peer, Beside: results[c.peer].connections, Wanted: c.wanted})
	}
	for _, c := range []pair{{ours, dockerNFT, level}, {ours, ipv6nat, beyond}, {routed, dockerNFT, level}, {oursIP6, dockerNFT, nil}} {
		r.add(row{What: "throughput" + at + c.who, Value: results[c.who].gbits, Unit: "Gbit/s", Peer: c.peer, Beside: results[c.peer].gbits, Wanted: c.wanted})
	}
	for _, c := range []pair{{ours, dockerNFT, ratioBelow(1)}, {ours, ipv6nat, nil}, {oursIP6, dockerNFT, nil}} {
		r.add(row{What: "publish one port more" + at + c.who, Value: results[c.who].publish, Unit: "ms", Peer: c.peer, Beside: results[c.peer].publish, Wanted: c.wanted})
	}
}

// measurePublished measures all firewalls with all numbers of ports.
func measurePublished(t *testing.T, docker captured, results map[int]map[string]result) {
	var sites []*portsSite
	for _, n := range published {
		results[n] = map[string]result{}
		sites = append(sites,
			newPortsSite(t, ours, docker, n, loadV6net(newNFTables, true)),
			newPortsSite(t, routed, docker, n, loadV6net(newNFTables, false)),
			newPortsSite(t, oursIP6, docker, n, loadV6net(newIP6Tables, true)),
			newPortsSite(t, dockerNFT, docker, n, loadSaved("ip6tables-nft", docker.rules, docker.publish)),
			newPortsSite(t, dockerLegacy, docker, n, loadSaved("ip6tables-legacy", docker.rules, docker.publish)),
			newPortsSite(t, ipv6nat, docker, n, loadSaved("ip6tables-nft", ipv6natRules(docker), ipv6natPublish(docker))),
		)
	}
	for turn := range firewallTurns {
		for _, s := range sites {
			best := results[s.n][s.name]
			best.connections = max(best.connections, s.connect(t))
			best.gbits = max(best.gbits, s.send(t))
			if turn < publishTurns {
				took := milliseconds(s.publishOne(t, firstPort+s.n+turn))
				if turn == 0 || took < best.publish {
					best.publish = took
				}
			}
			results[s.n][s.name] = best
		}
	}
}

// captureDocker has an engine publish ten ports of a container, and says what rules and
// commands that came to.
func captureDocker(t *testing.T) captured {
	engine := testengine.Start(t, testengine.Options{Args: []string{"--experimental", "--ip6tables", "--debug"}})
	image := engine.Image(t)
	engine.CLI(t, "network", "create", "--ipv6", "--subnet", "fd00:d::/64", "-o", "com.docker.network.bridge.name=lab0", "lab")
	engine.CLI(t, "run", "-d", "--name", "lab", "--network", "lab", "-p", fmt.Sprintf("%d-%d:%[1]d-%[2]d", firstPort, firstPort+9), image)
	version, err := engine.Client().ServerVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := captured{
		engine:  version.Version,
		address: engine.Inspect(t, "lab", "{{(index .NetworkSettings.Networks \"lab\").GlobalIPv6Address}}"),
		rules:   engine.Host().Run(t, "ip6tables-nft-save"),
	}
	c.publish = commandsFor(engine.Logs(t), firstPort+5)
	engine.CLI(t, "rm", "-f", "lab")
	engine.CLI(t, "network", "rm", "lab")
	c.check(t)
	return c
}
