//go:build bench

package bench_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// resumed is the goal for solicitations after a restart. A router asks three times, once a
// second (RFC 4861 §10), so that it is far below what anybody notices.
const resumed = 100 // milliseconds

// measureRestart kills a daemon whose container is asked for every millisecond, and starts it
// again: how long after that is the first answer?
func measureRestart(t *testing.T, r *report) {
	const times = 9
	for _, path := range []string{"auto", "packet"} {
		host, containers, up := testnet.New(t, "host"), testnet.New(t, "containers"), testnet.New(t, "up")
		testnet.Connect(t, host, "eth0", up, "lan0")
		host.AddAddress(t, "2001:db8:1::2/64", "eth0")
		d := newDaemon(t, host)
		d.args = []string{"--ndproxy-path", path}
		d.start(t)
		pools := d.plugin.makeNetwork(t, id("network", 0), pair{v4: "10.6.0.0/24", v6: "2001:db8:a::/64"}, map[string]any{"ndproxy": "on", "parent": "eth0"})
		connect(t, d.plugin, id("network", 0), id("endpoint", 0), pools, host, containers)
		asker := testnet.Ask(t, up, "lan0", netip.MustParseAddr("2001:db8:a::2"))
		firstAnswer(t, asker, time.Time{})
		var answers, serves sample
		for range times {
			d.kill(t)
			started := time.Now()
			serves = append(serves, d.start(t))
			answers = append(answers, firstAnswer(t, asker, started))
			time.Sleep(100 * time.Millisecond) // what the start set off
		}
		r.add(row{What: "NDP answers resume after a daemon that was killed is started, path " + path + ", median", Value: answers.median(), Unit: "ms",
			Peer: "the start until calls are answered", Beside: serves.median(), Wanted: below(resumed)})
		d.stop(t)
	}
}

// firstAnswer is how long after a moment there was an answer.
func firstAnswer(t *testing.T, asker *testnet.Asker, from time.Time) time.Duration {
	t.Helper()
	testnet.Eventually(t, startTimeout, "an answer", func() bool { return len(asker.Since(from)) > 0 })
	return asker.Since(from)[0].Sub(from)
}
