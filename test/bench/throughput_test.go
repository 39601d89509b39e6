//go:build bench

package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	throughputRuns = 5 // of each network, in turn with its peer
	throughputTime = 2 // seconds of each run
)

// throughput is a network over which a container sends.
type throughput struct {
	name    string
	subnet  string // the machine outside has its first address
	options []string
	gbits   []float64
}

// measureThroughput has iperf3 send over TCP and IPv6 from a container to the
// machine outside, on a network of v6net's and one of Docker's own driver of the
// same mode, which take turns.
func measureThroughput(t *testing.T, r *report) {
	s := newStreet(t)
	server := s.outside.Command(context.Background(), "iperf3", "-s")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	modes := []string{"bridge", "macvlan"}
	if s.kernelHas(t, "ipvlan") {
		modes = append(modes, "ipvlan")
	}
	for i, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			docker := &throughput{name: "docker-" + mode, subnet: fmt.Sprintf("2001:db8:d%d::", i), options: []string{"-d", mode}}
			ours := &throughput{name: "v6net-" + mode, subnet: fmt.Sprintf("2001:db8:e%d::", i),
				options: []string{"-d", pluginName, "--ipam-driver", pluginName, "-o", "mode=" + mode}}
			if mode != "bridge" {
				docker.options = append(docker.options, "-o", "parent=eth0")
			}
			for _, n := range []*throughput{docker, ours} {
				s.startSender(t, mode, n)
			}
			for range throughputRuns {
				for _, n := range []*throughput{docker, ours} {
					n.gbits = append(n.gbits, s.send(t, mode, n))
				}
			}
			r.add(row{
				What: "TCP from a container to a machine outside, median, " + mode, Value: median(ours.gbits), Unit: "Gbit/s",
				Peer: "Docker's " + mode + " driver", Beside: median(docker.gbits),
			})
		})
	}
}

// target is the address outside that a network's container sends to: on its own
// link, or behind the host.
func (s *street) target(mode string, n *throughput) string {
	if mode == "bridge" {
		return "2001:db8:1::1"
	}
	return n.subnet + "1"
}

func (s *street) startSender(t *testing.T, mode string, n *throughput) {
	t.Helper()
	options := n.options
	subnet := n.subnet + "/64"
	if mode == "bridge" {
		s.outside.Run(t, "ip", "route", "replace", subnet, "via", "2001:db8:1::2")
	} else {
		s.outside.Run(t, "ip", "address", "replace", n.subnet+"1/64", "dev", "lan0", "nodad")
		options = append(slices.Clone(options), "--gateway", n.subnet+"1")
	}
	s.engine.CLI(t, append(append([]string{"network", "create", "--ipv6", "--subnet", subnet}, options...), n.name)...)
	t.Cleanup(func() {
		for _, args := range [][]string{{"rm", "-f", n.name}, {"network", "rm", n.name}} {
			if _, err := s.engine.Try(context.Background(), args...); err != nil {
				t.Error(err)
			}
		}
	})
	s.engine.CLI(t, "run", "-d", "--name", n.name, "--network", n.name, s.image)
}

// send is one run of iperf3 in the network of a container, in Gbit/s.
func (s *street) send(t *testing.T, mode string, n *throughput) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pid := s.engine.Inspect(t, n.name, "{{.State.Pid}}")
	out, err := exec.CommandContext(ctx, "nsenter", "--net=/proc/"+pid+"/ns/net", "--",
		"iperf3", "-6", "-J", "-t", fmt.Sprint(throughputTime), "-c", s.target(mode, n)).Output()
	if err != nil {
		t.Fatalf("iperf3 on %s: %v\n%s", n.name, err, out)
	}
	var result struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("iperf3 on %s: %v", n.name, err)
	}
	return result.End.Received.BitsPerSecond / 1e9
}

// kernelHas reports whether the kernel makes links of a kind on eth0.
func (s *street) kernelHas(t *testing.T, kind string) bool {
	t.Helper()
	host := s.engine.Host()
	out, err := host.Command(t.Context(), "ip", "link", "add", "link", "eth0", "name", "try", "type", kind).CombinedOutput()
	if err != nil {
		t.Logf("no %s here: %s", kind, strings.TrimSpace(string(out)))
		return false
	}
	host.Run(t, "ip", "link", "del", "try")
	return true
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
