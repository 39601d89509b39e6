//go:build bench

package bench_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/testnet"
)

const (
	endpoints  = 1000
	networks   = 4 // a bridge has at most 1023 ports (BR_MAX_PORTS), and slows down with each
	perNetwork = endpoints / networks
	edge       = 100 // the first and the last so many are compared
)

// measureDaemon brings 1,000 endpoints up through the plugin's socket, in the
// order in which a container engine asks, then restarts the daemon. Each has a
// published port, and is answered for on the uplink.
func measureDaemon(t *testing.T, r *report) {
	host, containers := testnet.New(t, "host"), testnet.New(t, "containers")
	up := testnet.New(t, "up")
	testnet.Connect(t, host, "eth0", up, "lan0")
	host.AddAddress(t, "2001:db8:1::2/64", "eth0")
	host.Run(t, "ip", "route", "add", "default", "via", "2001:db8:1::1")

	d := newDaemon(t, host)
	empty, emptyCPU := d.start(t), d.cpu(t)
	baseRSS, baseFiles := d.memory(t, "VmRSS"), d.files(t)
	var pools [networks]pair
	for n := range networks {
		subnets := pair{v4: fmt.Sprintf("10.6.%d.0/22", 4*n), v6: fmt.Sprintf("2001:db8:a:%x::/64", n)}
		pools[n] = d.plugin.makeNetwork(t, id("network", n), subnets, map[string]any{"ndproxy": "on", "parent": "eth0"})
	}
	growth := curve{What: "bring up an endpoint, on 4 bridges"}
	bring := func(from, to int) cost {
		began := d.cpu(t)
		var times sample
		for i := from; i < to; i++ {
			times = append(times, connect(t, d.plugin, id("network", i%networks), id("endpoint", i), pools[i%networks], host, containers))
		}
		growth.add(to, times.median())
		return cost{wall: times.median(), cpu: milliseconds(d.cpu(t)-began) / float64(to-from)}
	}
	first := bring(0, edge)
	for at := edge; at < endpoints-edge; at += edge {
		bring(at, at+edge)
	}
	last := bring(endpoints-edge, endpoints)
	r.Curves = append(r.Curves, growth)

	r.add(row{What: "daemon's memory with 1,000 endpoints", Value: d.memory(t, "VmRSS"), Unit: "MiB",
		Peer: "itself without any", Beside: baseRSS, Wanted: below(40)})
	r.add(row{What: "daemon's memory at its peak (VmHWM)", Value: d.memory(t, "VmHWM"), Unit: "MiB",
		Peer: "itself without any", Beside: baseRSS, Wanted: below(40)})
	r.add(row{What: "daemon's open files with 1,000 endpoints", Value: d.files(t), Unit: "files",
		Peer: "itself without any", Beside: baseFiles})

	before := host.Run(t, "ip", "-o", "link", "show", "type", "veth")
	d.stop(t)
	replay, replayCPU := d.start(t), d.cpu(t)
	if after := host.Run(t, "ip", "-o", "link", "show", "type", "veth"); after != before {
		t.Errorf("the restart changed links: %d bytes of `ip link` before, %d after", len(before), len(after))
	}
	r.add(row{What: "start with 1,000 endpoints to replay", Value: milliseconds(replay), Unit: "ms",
		Peer: "itself without any", Beside: milliseconds(empty), Wanted: below(2000)})
	r.add(row{What: "the daemon's processor time for this", Value: milliseconds(replayCPU), Unit: "ms",
		Peer: "itself without any", Beside: milliseconds(emptyCPU)})
	time.Sleep(time.Second) // what the start set off
	r.add(row{What: "daemon's memory after the replay", Value: d.memory(t, "VmRSS"), Unit: "MiB",
		Peer: "itself without any", Beside: baseRSS, Wanted: below(40)})
	r.add(row{What: "daemon's memory at its peak in the replay (VmHWM)", Value: d.memory(t, "VmHWM"), Unit: "MiB",
		Peer: "itself without any", Beside: baseRSS, Wanted: below(40)})
	d.stop(t)

	// After all else: a thousand more links of this machine ask for routers and groups for a quarter of a minute.
	bareFirst, bareLast := bareLinks(t)
	for _, m := range []struct {
		what         string
		value, alone cost
	}{{"first", first, bareFirst}, {"last", last, bareLast}} {
		r.add(row{What: "bring up an endpoint, median of the " + m.what + " 100 of 1,000", Value: m.value.wall, Unit: "ms",
			Peer: "the same links by ip -batch", Beside: m.alone.wall})
		r.add(row{What: "the daemon's processor time for each of these", Value: m.value.cpu, Unit: "ms",
			Peer: "the same links by ip -batch", Beside: m.alone.cpu})
	}
}

// connect brings one endpoint up and answers how long the plugin took. What a
// container engine does in between is not counted.
func connect(t *testing.T, p *plugin, networkID, endpointID string, pools pair, host, containers *testnet.Host) time.Duration {
	t.Helper()
	began := time.Now()
	link := p.attach(t, networkID, endpointID, pools)
	took := time.Since(began)
	host.Run(t, "ip", "link", "set", "dev", link, "netns", containers.Path(), "up")
	began = time.Now()
	p.publish(t, networkID, endpointID)
	return took + time.Since(began)
}

// id is an ID as Docker makes them, always the same one.
func id(kind string, n int) string {
	hash := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, n))
	return hex.EncodeToString(hash[:])
}

// cost is what one endpoint takes, in milliseconds: until it is there, and of
// the processors, which other programs on the machine do not lengthen much.
type cost struct{ wall, cpu float64 }

// bareLinks makes bridges and veth pairs as v6net does, by nothing but the
// kernel and few runs of ip(8): no endpoint can be had for less. Moving links
// into containers is not counted here either.
func bareLinks(t *testing.T) (first, last cost) {
	t.Helper()
	host, containers := testnet.New(t, "bare"), testnet.New(t, "barecontainers")
	for n := range networks {
		host.Run(t, "ip", "link", "add", fmt.Sprint("br", n), "up", "type", "bridge", "mcast_snooping", "0")
	}
	add := func(from, to int) cost {
		wall, cpu := batch(t, host, from, to, func(w *bytes.Buffer, i int) {
			fmt.Fprintf(w, "link add v%d type veth peer name p%d\n", i, i)
			fmt.Fprintf(w, "link set v%d alias v6net:endpoint:%s\n", i, id("endpoint", i))
			fmt.Fprintf(w, "link set v%d addrgenmode none\n", i)
			fmt.Fprintf(w, "link set v%d master br%d\n", i, i%networks)
			fmt.Fprintf(w, "link set v%d type bridge_slave hairpin on isolated off\n", i)
			fmt.Fprintf(w, "link set v%d up\n", i)
		})
		batch(t, host, from, to, func(w *bytes.Buffer, i int) {
			fmt.Fprintf(w, "link set p%d netns %s up\n", i, containers.Path())
		})
		n := float64(to - from)
		return cost{wall: milliseconds(wall) / n, cpu: milliseconds(cpu) / n}
	}
	first = add(0, edge)
	add(edge, endpoints-edge)
	return first, add(endpoints-edge, endpoints)
}

// batch runs ip(8) once with commands for the numbers in [from, to), and answers
// how long that took.
func batch(t *testing.T, host *testnet.Host, from, to int, command func(w *bytes.Buffer, i int)) (wall, cpu time.Duration) {
	t.Helper()
	var commands bytes.Buffer
	for i := from; i < to; i++ {
		command(&commands, i)
	}
	cmd := host.Command(t.Context(), "ip", "-batch", "-")
	cmd.Stdin = &commands
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip -batch: %v\n%s", err, out)
	}
	return time.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
