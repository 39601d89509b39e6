//go:build netns

package crash_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/v6net/v6net/internal/testnet"
)

// resumed is within what solicitations are answered again for after a start. It takes 20 ms
// (test/bench); a router asks for three seconds (RFC 4861 §10), and CI's machines are busy.
const resumed = time.Second

// Containers behind a bridge do not notice that the daemon is restarted, however it ended.
func TestTrafficThroughRestarts(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.uncounted = true
	m.start(0)
	d := &inDocker{subnet4: "10.80.0.0/24", subnet6: "2001:db8:a::/64", hostPort: 8080, options: map[string]any{"ndproxy": "on", "parent": "eth0", "ra": "on"}}
	m.up.Run(t, "ip", "route", "add", d.subnet6, "dev", "lan0")
	for _, do := range []func(*machine) error{d.requestPools, d.createNetwork, d.requestAddresses, d.createEndpoint, d.join} {
		if err := do(m); err != nil {
			t.Fatal(err)
		}
	}
	const port = "7"
	if err := m.docker.post("NetworkDriver.ProgramExternalConnectivity", network.ProgramExternalConnectivityRequest{NetworkID: networkID, EndpointID: endpointID,
		Options: map[string]any{"com.docker.network.portmap": []map[string]any{{"Proto": 17, "Port": 7, "HostPort": 7}}}}, nil); err != nil {
		t.Fatal(err)
	}
	address := netip.MustParsePrefix(d.address6).Addr()
	for _, path := range []string{"auto", "packet"} {
		for _, end := range []struct {
			name string
			do   func() error
		}{
			{"stopped", func() error { return m.daemon.Stop() }},
			{"killed", func() error { return m.daemon.Kill() }},
		} {
			t.Run(path+"/"+end.name, func(t *testing.T) {
				m.args = []string{"--ndproxy-path", path}
				m.kill()
				m.start(0)
				asker := testnet.Ask(t, m.up, "lan0", address)
				testnet.Eventually(t, patience, "an answer", func() bool { return len(asker.Since(time.Time{})) > 0 })
				stream := testnet.StartStream(t, m.up, m.container, address.String(), port)
				time.Sleep(100 * time.Millisecond)
				down := time.Now()
				if err := end.do(); err != nil {
					t.Fatal(err)
				}
				started := time.Now()
				m.start(0)
				serves := time.Now()
				testnet.Eventually(t, patience, "answers go on", func() bool { return len(asker.Since(serves)) > 100 })
				outcome := stream.Stop()
				if outcome.There != outcome.Sent || outcome.Back != outcome.Sent {
					t.Errorf("of %d packets %d have arrived and %d come back", outcome.Sent, outcome.There, outcome.Back)
				}
				var pause time.Duration
				last := down
				for _, at := range asker.Since(down) {
					pause, last = max(pause, at.Sub(last)), at
				}
				first := asker.Since(started)[0].Sub(started)
				if first > resumed {
					t.Errorf("the first answer came %v after the start, more than %v", first, resumed)
				}
				t.Logf("%d packets sent, %d arrived, the longest pause %v; solicitations had no answer for %v, until %v after the daemon was started again, which served after %v",
					outcome.Sent, outcome.There, outcome.Pause.Round(time.Millisecond), pause.Round(time.Millisecond), first.Round(time.Millisecond), serves.Sub(started).Round(time.Millisecond))
			})
		}
	}
}
