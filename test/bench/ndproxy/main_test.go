//go:build bench

// Package ndproxy_test measures the NDP proxy beside ndppd and the kernel's
// proxy_ndp: answers per second, latency, and both under a flood for unknown
// targets. Nothing here judges: a bar that is missed is shown. `make
// bench-ndproxy` runs it, and writes docs/benchmarks/ndproxy.md's table and plot.
package ndproxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }

var lines = strings.Lines

// How long each cell is measured.
const (
	flooding = time.Second
	asking   = time.Second
	mostAsks = 20_000
)

// subject is what answers.
type subject struct {
	name  string
	sizes []uint64
	start func(t *testing.T, r *rig, n uint64) (pid int, added time.Duration)
	// patience is how long an answer is waited for.
	patience time.Duration
}

var allSizes = []uint64{1, 1000, 10_000, 100_000, 1_000_000}

var subjects = []subject{
	{"v6net, eBPF", allSizes, v6net("ebpf"), time.Second},
	{"v6net, packet", allSizes, v6net("packet"), time.Second},
	{"ndppd 0.2.5, static", allSizes, ndppd, time.Second},
	{"kernel, proxy_delay 0", allSizes[:3], kernel("0"), time.Second},
	{"kernel, default", allSizes[:2], kernel("80"), 2 * time.Second},
}

// cell is one measurement.
type cell struct {
	Subject   string
	Addresses uint64
	Unicast   bool

	Asked, Answered    float64 // per second, in a flood for live addresses
	PerCPU             float64 // answers for a second of processor time
	P50, P99           time.Duration
	Lost               int
	FloodP50, FloodP99 time.Duration // with a flood for unknown targets besides
	FloodLost          int
	RSSBefore, RSS     int           // KiB, before and after that flood
	PerPacket          time.Duration // of the eBPF program
	Added              time.Duration // from the start until all addresses are answered for
	AddedCPU           time.Duration // the processor time of that, where a process has done it
}

// rig is the cable: self answers on eth0, up asks on lan0.
type rig struct {
	self, up *testnet.Host
	mac      [6]byte
}

func TestBench(t *testing.T) {
	bin, err := filepath.Abs("../../../bin/v6net")
	if err == nil {
		_, err = os.Stat(bin)
	}
	if err != nil {
		t.Fatalf("run make build first: %v", err)
	}
	rep := &report{growth: map[string]float64{}}
	t.Run("generator", rep.generator)
	for _, s := range subjects[:2] {
		t.Run(s.name+"/in turn", func(t *testing.T) { rep.growth[s.name] = growth(t, s) })
	}
	t.Run("churn", func(t *testing.T) { rep.churnCPU, rep.churn50, rep.churn99 = churn(t) })
	for _, s := range subjects {
		for _, n := range s.sizes {
			t.Run(fmt.Sprintf("%s/%d", s.name, n), func(t *testing.T) {
				r := newRig(t, testnet.Self(t), testnet.New(t, "up"))
				pid, added := s.start(t, r, n)
				var spent time.Duration
				if pid != 0 {
					spent = processorTime(t, pid)
				}
				for _, unicast := range []bool{false, true} {
					c := cell{Subject: s.name, Addresses: n, Unicast: unicast, Added: added, AddedCPU: spent}
					r.measure(t, &c, s, pid)
					rep.cells = append(rep.cells, c)
					t.Logf("%+v", c)
				}
			})
		}
	}
	rep.write(t)
}

func newRig(t *testing.T, self, up *testnet.Host) *rig {
	r := &rig{self: self, up: up}
	testnet.Connect(t, r.self, "eth0", r.up, "lan0")
	r.self.Run(t, "ip", "addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad")
	r.up.Run(t, "ip", "addr", "add", asker.String()+"/64", "dev", "lan0", "nodad")
	// Without a way to it, the kernel does not look at what is unicast to a target.
	r.self.Run(t, "ip", "link", "add", "inside", "type", "bridge")
	t.Cleanup(func() { _ = r.self.Command(context.Background(), "ip", "link", "del", "inside").Run() })
	r.self.Run(t, "ip", "link", "set", "inside", "up")
	r.self.Run(t, "ip", "route", "add", "2001:db8:1::/64", "dev", "inside")
	time.Sleep(100 * time.Millisecond) // addresses come into use
	var device *net.Interface
	var err error
	self.Do(t, func() { device, err = net.InterfaceByName("eth0") })
	if err != nil {
		t.Fatal(err)
	}
	r.mac = [6]byte(device.HardwareAddr)
	return r
}

// growth is by how much a second of processor time brings more answers at the size
// with the most than at that with the fewest. All sizes run at once and are asked in
// turn, so that a processor that others slow down does not pass for a slow program.
// Where the kernel answers, the process rests: to tell a link of a million leases takes
// it a quarter of an hour, which is no part of an answer.
func growth(t *testing.T, s subject) float64 {
	const turns, turn = 40, flooding / 12
	type running struct {
		g    *generator
		r    *rig
		live [][]byte
		pid  int
		best float64
	}
	var all []*running
	for i, n := range s.sizes {
		r := newRig(t, testnet.New(t, fmt.Sprint("self", i)), testnet.New(t, fmt.Sprint("up", i)))
		one := &running{r: r}
		pid, _ := s.start(t, r, n)
		if strings.Contains(s.name, "eBPF") {
			pause(t, pid)
		} else {
			one.pid = pid
		}
		var err error
		r.up.Do(t, func() { one.g, err = newGenerator("lan0", r.mac) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(one.g.close)
		one.live = one.g.targets(0, n, false)
		all = append(all, one)
	}
	for range turns {
		for _, one := range all {
			var perCPU float64
			var err error
			one.r.up.Do(t, func() {
				defer pin()()
				_, _, perCPU, err = one.g.best(t, one.live, turn, one.pid, 1)
			})
			if err != nil {
				t.Fatal(err)
			}
			one.best = max(one.best, perCPU)
		}
	}
	least, most := math.Inf(1), 0.0
	for i, one := range all {
		t.Logf("%d addresses: %s answers per processor second", s.sizes[i], rate(one.best))
		least, most = min(least, one.best), max(most, one.best)
	}
	return most / least
}

// pause stops a process until the end of the test.
func pause(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
}

// measure fills a cell in.
func (r *rig) measure(t *testing.T, c *cell, s subject, pid int) {
	var err error
	r.up.Do(t, func() {
		defer pin()()
		var g *generator
		if g, err = newGenerator("lan0", r.mac); err != nil {
			return
		}
		defer g.close()
		live, unknown := g.targets(0, c.Addresses, c.Unicast), g.targets(1<<40, 1<<40, false)
		answerer := pid
		if strings.Contains(s.name, "eBPF") {
			answerer = 0 // the kernel answers, not the process
		}
		var times []time.Duration
		if times, c.Lost, err = g.calmest(live, nil, mostAsks, asking, s.patience); err != nil {
			return
		}
		c.P50, c.P99 = quantile(times, 0.5), quantile(times, 0.99)
		if c.Asked, c.Answered, c.PerCPU, err = g.best(t, live, flooding, answerer, rounds); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
		if pid != 0 {
			c.RSSBefore = rss(t, pid)
		}
		if times, c.FloodLost, err = g.calmest(live, unknown, mostAsks, asking, s.patience); err != nil {
			return
		}
		c.FloodP50, c.FloodP99 = quantile(times, 0.5), quantile(times, 0.99)
		if pid != 0 {
			c.RSS = rss(t, pid)
		}
		if strings.Contains(s.name, "eBPF") {
			for range rounds {
				var d time.Duration
				d, err = perPacket(func() error {
					_, _, err := g.throughput(live, flooding/rounds)
					return err
				})
				if err != nil {
					return
				}
				if c.PerPacket == 0 || d < c.PerPacket {
					c.PerPacket = d
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// pin keeps this thread, the generator's, on one processor until it is let go.
func pin() (letGo func()) {
	var before, one unix.CPUSet
	if unix.SchedGetaffinity(0, &before) != nil {
		return func() {}
	}
	one.Set(0)
	_ = unix.SchedSetaffinity(0, &one)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20) // as the daemons
	return func() {
		_ = unix.SchedSetaffinity(0, &before)
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 0)
	}
}

// perPacket is the mean run time of the program while load runs.
func perPacket(load func() error) (time.Duration, error) {
	stop, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return 0, err
	}
	defer func() { _ = stop.Close() }()
	program, err := find("ndproxy_answer")
	if err != nil {
		return 0, err
	}
	defer func() { _ = program.Close() }()
	before, err := program.Stats()
	if err != nil {
		return 0, err
	}
	if err := load(); err != nil {
		return 0, err
	}
	after, err := program.Stats()
	if err != nil || after.RunCount == before.RunCount {
		return 0, errors.Join(err, errors.New("the program did not run"))
	}
	return (after.Runtime - before.Runtime) / time.Duration(after.RunCount-before.RunCount), nil
}

// find is the last program of a name, cut to the kernel's 15 characters.
func find(name string) (found *ebpf.Program, err error) {
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue
		}
		if info, err := p.Info(); err == nil && info.Name == name[:min(15, len(name))] {
			found = p
		} else {
			_ = p.Close()
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no eBPF program %s is loaded", name)
	}
	return found, nil
}

func run(t *testing.T, r *rig, ready string, args ...string) (pid int, took time.Duration) {
	t.Helper()
	cmd := r.self.Command(context.Background(), append([]string{"nice", "-n", "-20"}, args...)...)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
	})
	started := make(chan string, 1)
	go func() {
		var log bytes.Buffer
		for s := bufio.NewScanner(out); s.Scan(); {
			log.WriteString(s.Text() + "\n")
			if ready != "" && strings.Contains(s.Text(), ready) {
				select {
				case started <- s.Text():
				default:
				}
			}
		}
	}()
	if ready == "" {
		time.Sleep(500 * time.Millisecond)
		return cmd.Process.Pid, time.Since(began)
	}
	select {
	case <-started:
	case <-time.After(60 * time.Second):
		t.Fatalf("%v does not say %q", args, ready)
	}
	return cmd.Process.Pid, time.Since(began)
}

// v6net runs the program alone, its limits as good as off.
func v6net(path string) func(*testing.T, *rig, uint64) (int, time.Duration) {
	return func(t *testing.T, r *rig, n uint64) (int, time.Duration) {
		var list bytes.Buffer
		for i := range n {
			fmt.Fprintln(&list, address(i))
		}
		file := filepath.Join(t.TempDir(), "addresses")
		if err := os.WriteFile(file, list.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		bin, err := filepath.Abs("../../../bin/v6net")
		if err != nil {
			t.Fatal(err)
		}
		ready := "proxying neighbor discovery"
		if path == "ebpf" {
			ready = "answering by eBPF"
		}
		pid, took := run(t, r, ready, bin, "ndproxy", "--interface", "eth0", "--addresses", file, "--path", path,
			"--rate", "1000000000", "--source-rate", "1000000000")
		time.Sleep(time.Second) // what is told of the addresses is told
		return pid, took
	}
}

func ndppd(t *testing.T, r *rig, _ uint64) (int, time.Duration) {
	file := filepath.Join(t.TempDir(), "ndppd.conf")
	if err := os.WriteFile(file, []byte("proxy eth0 {\n  router yes\n  rule 2001:db8:1::/64 {\n    static\n  }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, r, "", "ndppd", "-c", file)
}

// kernel has the kernel answer, by an entry for each address.
func kernel(delay string) func(*testing.T, *rig, uint64) (int, time.Duration) {
	return func(t *testing.T, r *rig, n uint64) (int, time.Duration) {
		r.self.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
		r.self.Sysctl(t, "net/ipv6/conf/all/proxy_ndp", "1")
		if delay == "0" {
			r.self.Sysctl(t, "net/ipv6/neigh/eth0/proxy_delay", "0")
		}
		t.Cleanup(func() {
			r.self.Sysctl(t, "net/ipv6/conf/all/forwarding", "0")
			r.self.Sysctl(t, "net/ipv6/conf/all/proxy_ndp", "0")
		})
		var batch bytes.Buffer
		for i := range n {
			fmt.Fprintf(&batch, "neigh add proxy %s dev eth0\n", address(i))
		}
		cmd := r.self.Command(t.Context(), "ip", "-6", "-batch", "-")
		cmd.Stdin = &batch
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return 0, time.Since(began)
	}
}
