//go:build netns

package crash_test

import (
	"errors"
	"strings"
	"testing"
)

// No TCP, UDP or SCTP port of the daemon's is open to the network: published ones are rules
// alone, and what it says and hears on links goes by packet sockets.
func TestNothingListensToTheNetwork(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.uncounted = true
	const metrics = "127.0.0.1:9465"
	m.args = []string{"--metrics", metrics}
	m.start(0)
	d := &inDocker{subnet4: "10.80.0.0/24", subnet6: "fd12:1:2:3::/64", hostPort: 8080, options: map[string]any{"ndproxy": "on", "parent": "eth0", "ra": "on"}}
	if err := errors.Join(d.requestPools(m), d.createNetwork(m), d.requestAddresses(m), d.createEndpoint(m), d.join(m),
		m.docker.publish(d.networkID(), d.endpointID(), 80, d.hostPort)); err != nil {
		t.Fatal(err)
	}
	var listens []string
	for line := range strings.Lines(m.host.Run(t, "ss", "-HlntuSO")) {
		listens = append(listens, strings.Fields(line)[4])
	}
	// That of the metrics, on loopback, is what was asked for, and says that a port would be seen.
	if len(listens) != 1 || listens[0] != metrics {
		t.Errorf("ports of %q are open, want that of %s alone", listens, metrics)
	}
}
