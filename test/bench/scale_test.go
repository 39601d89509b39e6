//go:build bench

package bench_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

// networksAsked is how many networks are made, for who has less time: V6NET_BENCH_NETWORKS.
func networksAsked(t *testing.T) int {
	t.Helper()
	asked := os.Getenv("V6NET_BENCH_NETWORKS")
	if asked == "" {
		return 1000
	}
	n, err := strconv.Atoi(asked)
	if err != nil || n < 1 || n > 48*256 { // as many /24 as measureScale has
		t.Fatalf("V6NET_BENCH_NETWORKS=%q is not allowed (allowed: 1 to 12288)", asked)
	}
	return n
}

// measureScale makes a thousand networks and ten endpoints on each, restarts the daemon,
// and removes them all. What is flat costs the last hundred no more than the first.
func measureScale(t *testing.T, r *report) {
	manyNetworks := networksAsked(t)
	manyEndpoints := 10 * manyNetworks
	host, containers := testnet.New(t, "host"), testnet.New(t, "containers")
	// In one namespace the containers' ends would have thousands of routes, among which the
	// kernel looked for each end that goes; a container has its own few.
	containers.Sysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
	up := testnet.New(t, "up")
	testnet.Connect(t, host, "eth0", up, "lan0")
	host.AddAddress(t, "2001:db8:1::2/64", "eth0")
	host.Run(t, "ip", "route", "add", "default", "via", "2001:db8:1::1")

	d := newDaemon(t, host)
	empty, emptyCPU := d.start(t), d.cpu(t)
	pools := make([]pair, manyNetworks)
	networkID := func(i int) string { return id("one of many networks", i%manyNetworks) }
	endpointID := func(i int) string { return id("one of many endpoints", i) }
	for _, step := range []struct {
		what, unit string
		count      int
		one        func(i int) time.Duration
	}{
		{"create a network", "networks", manyNetworks, timed(func(i int) {
			subnets := pair{v4: fmt.Sprintf("10.%d.%d.0/24", 64+i/256, i%256), v6: fmt.Sprintf("2001:db8:a:%x::/64", i)}
			pools[i] = d.plugin.makeNetwork(t, networkID(i), subnets, map[string]any{"parent": "eth0"})
		})},
		{"bring up an endpoint", "endpoints", manyEndpoints, func(i int) time.Duration {
			return connect(t, d.plugin, networkID(i), endpointID(i), pools[i%manyNetworks], host, containers)
		}},
		{"restart", "", 1, func(int) time.Duration {
			d.stop(t)
			took := d.start(t)
			r.add(row{What: fmt.Sprintf("start with %d networks and %d endpoints to replay", manyNetworks, manyEndpoints), Value: milliseconds(took), Unit: "ms",
				Peer: "itself without any", Beside: milliseconds(empty)})
			r.add(row{What: "the daemon's processor time for this", Value: milliseconds(d.cpu(t)), Unit: "ms",
				Peer: "itself without any", Beside: milliseconds(emptyCPU)})
			r.add(row{What: "the daemon's memory after that", Value: d.memory(t, "VmRSS"), Unit: "MiB", Peer: "a KiB for each endpoint", Beside: float64(manyEndpoints) / 1024})
			return took
		}},
		{"remove an endpoint", "endpoints", manyEndpoints, timed(func(i int) { d.plugin.remove(t, networkID(i), endpointID(i)) })},
		{"remove a network", "networks", manyNetworks, timed(func(i int) { d.plugin.removeNetwork(t, networkID(i), pools[i]) })},
	} {
		if step.count < 2*edge {
			for i := range step.count {
				step.one(i)
			}
			continue
		}
		var times sample
		var cpu []time.Duration // of the daemon, before and after the first and the last of them
		for i := range step.count {
			for _, mark := range []int{0, edge, step.count - edge} {
				if i == mark {
					cpu = append(cpu, d.cpu(t))
				}
			}
			times = append(times, step.one(i))
		}
		cpu = append(cpu, d.cpu(t))
		growth := curve{What: fmt.Sprintf("%s, %d", step.what, step.count)}
		for part := range slices.Chunk(times, max(step.count/20, edge)) {
			growth.add(len(growth.At)*max(step.count/20, edge)+len(part), part.median())
		}
		r.Curves = append(r.Curves, growth)
		var flat *goal // of endpoints
		if step.unit == "endpoints" {
			flat = ratioBelow(1.3)
		}
		first, last := times[:edge].median(), times[len(times)-edge:].median()
		r.add(row{What: fmt.Sprintf("%s, median of the last %d of %d", step.what, edge, step.count), Value: last, Unit: "ms",
			Peer: fmt.Sprintf("the first %d %s", edge, step.unit), Beside: first, Wanted: flat})
		r.add(row{What: "the daemon's processor time for each of these", Value: milliseconds(cpu[3]-cpu[2]) / edge, Unit: "ms",
			Peer: fmt.Sprintf("the first %d %s", edge, step.unit), Beside: milliseconds(cpu[1]-cpu[0]) / edge, Wanted: flat})
	}
	if left := host.Run(t, "ip", "-o", "link", "show", "type", "bridge"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	d.stop(t)
}

// timed is how long each call of do takes.
func timed(do func(i int)) func(i int) time.Duration {
	return func(i int) time.Duration {
		began := time.Now()
		do(i)
		return time.Since(began)
	}
}
