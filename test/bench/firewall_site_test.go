//go:build bench

package bench_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/ip6tables"
	"github.com/v6net/v6net/internal/kernel/nft"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

const (
	outsideAddress, hostAddress = "2001:db8:1::1", "2001:db8:1::2"
	listeners                   = 100 // of a container's ports, spread over all that are published
	callers                     = 4   // at the same time
)

// portsSite is a machine outside, a host with one firewall, and a container of which n
// ports are published there.
type portsSite struct {
	name                     string
	n                        int
	outside, host, container *testnet.Host
	address                  netip.Addr // the container's
	target                   netip.Addr // where the ports are reached
	ports                    []uint16   // that somebody listens on
	stream                   int        // the one for throughput: half of all come before it
	publishOne               func(t *testing.T, port int) time.Duration
}

// loader puts a firewall's rules in place on a site. It may choose another target than
// the host's address.
type loader func(t *testing.T, s *portsSite, n int)

func newPortsSite(t *testing.T, name string, docker captured, n int, load loader) *portsSite {
	t.Helper()
	s := &portsSite{name: name, n: n, outside: testnet.New(t, "outside"), host: testnet.New(t, "host"), container: testnet.New(t, "container"),
		address: netip.MustParseAddr(docker.address), target: netip.MustParseAddr(hostAddress)}
	if name == routed {
		s.address = netip.MustParseAddr("2001:db8:d::5")
		s.target = s.address
	}
	testnet.Connect(t, s.host, "eth0", s.outside, "lan0")
	testnet.Connect(t, s.host, benchPort, s.container, "eth0")
	s.host.AddAddress(t, hostAddress+"/64", "eth0")
	s.outside.AddAddress(t, outsideAddress+"/64", "lan0")
	s.host.Run(t, "ip", "link", "add", "lab0", "type", "bridge", "mcast_snooping", "0")
	s.host.Run(t, "ip", "link", "set", "lab0", "up")
	s.host.Run(t, "ip", "link", "set", benchPort, "master", "lab0")
	gateway := s.pool().Addr().Next()
	s.host.Run(t, "ip", "addr", "add", netip.PrefixFrom(gateway, 64).String(), "dev", "lab0", "nodad")
	s.container.AddAddress(t, netip.PrefixFrom(s.address, 64).String(), "eth0")
	s.container.Run(t, "ip", "route", "add", "default", "via", gateway.String())
	s.outside.Run(t, "ip", "route", "add", "default", "via", hostAddress)
	for _, key := range []string{"net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/forwarding"} {
		s.host.Sysctl(t, key, "1")
	}
	load(t, s, n)
	s.stream = firstPort + n/2
	for i := range min(n, listeners) {
		if port := firstPort + i*n/min(n, listeners); port != s.stream {
			s.ports = append(s.ports, uint16(port))
		}
	}
	s.listen(t)
	s.serveThroughput(t)
	return s
}

// benchPort is the container's port of the bridge.
const benchPort = spec.VethPrefix + "lab"

func (s *portsSite) pool() netip.Prefix { return netip.PrefixFrom(s.address, 64).Masked() }

// network is what v6net makes its rules of.
func (s *portsSite) network(t *testing.T, n int, translated bool) firewall.Network {
	gateway := s.pool().Addr().Next()
	network := firewall.Network{
		ID: "aaaaaaaaaaaa", Bridge: "lab0", ICC: true, Isolate: true, Inbound: spec.InboundPublished,
		Pools: []netip.Prefix{s.pool()}, Live: []netip.Addr{s.address}, Gateways: []netip.Addr{gateway},
		Containers: []firewall.Container{{Port: benchPort, MAC: s.container.MAC(t, "eth0"), Addresses: []netip.Addr{s.address}}},
	}
	if translated {
		network.Masquerade = network.Pools
	}
	for i := range n {
		network.Published = append(network.Published, s.port(firstPort+i, translated))
	}
	return network
}

func (s *portsSite) port(number int, translated bool) firewall.Published {
	p := firewall.Published{Protocol: "tcp", Container: s.address, Port: uint16(number)}
	if translated {
		p.HostPort = uint16(number)
	}
	return p
}

// rules is the kernel's side of v6net's firewall.
type rules interface {
	Apply(context.Context, firewall.Ruleset) error
	Update(context.Context, []firewall.Change) error
	Close() error
}

func newNFTables(log *slog.Logger) (rules, error)  { return nft.New(log) }
func newIP6Tables(log *slog.Logger) (rules, error) { return ip6tables.New(context.Background(), log) }

// loadV6net has v6net's own packages put its rules there.
func loadV6net(open func(*slog.Logger) (rules, error), translated bool) loader {
	return func(t *testing.T, s *portsSite, n int) {
		t.Helper()
		var f rules
		s.host.Do(t, func() {
			var err error
			if f, err = open(slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
				t.Fatal(err)
			}
		})
		t.Cleanup(func() { _ = f.Close() })
		network := s.network(t, n, translated)
		ruleset, err := firewall.Build(firewall.Config{Networks: []firewall.Network{network}, Parents: []string{"eth0"}})
		if err == nil {
			err = f.Apply(t.Context(), ruleset)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.publishOne = func(t *testing.T, port int) time.Duration {
			// As the engine does: the container with what it publishes, before and after.
			before := network
			before.Published = nil
			after := before
			after.Published = []firewall.Published{s.port(port, translated)}
			begun := time.Now()
			changes, err := after.Since(before)
			if err == nil {
				err = f.Update(t.Context(), changes)
			}
			if err != nil {
				t.Fatal(err)
			}
			return time.Since(begun)
		}
	}
}

// loadSaved loads rules for ten ports as rules for n.
func loadSaved(program, saved string, publish []string) loader {
	return func(t *testing.T, s *portsSite, n int) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "rules")
		if err := os.WriteFile(file, []byte(withPorts(saved, n)), 0o600); err != nil {
			t.Fatal(err)
		}
		s.host.Run(t, program+"-restore", file)
		s.publishOne = func(t *testing.T, port int) time.Duration {
			begun := time.Now()
			for _, args := range publish {
				args = strings.ReplaceAll(args, fmt.Sprint(firstPort+5), fmt.Sprint(port))
				out, err := s.host.Command(t.Context(), append([]string{program}, strings.Fields(args)...)...).CombinedOutput()
				if err != nil && !strings.Contains(args, "-C ") {
					t.Fatalf("%s %s: %v\n%s", program, args, err, out)
				}
			}
			return time.Since(begun)
		}
	}
}

// listen accepts, and closes, whatever comes to the ports.
func (s *portsSite) listen(t *testing.T) {
	t.Helper()
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	s.container.Do(t, func() {
		for _, port := range s.ports {
			fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
			if err == nil {
				err = errors.Join(syscall.Bind(fd, &syscall.SockaddrInet6{Port: int(port)}), syscall.Listen(fd, 1024),
					syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}))
			}
			if err != nil {
				t.Fatalf("listen on port %d: %v", port, err)
			}
			fds = append(fds, fd)
		}
	})
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		events := make([]syscall.EpollEvent, 64)
		for !over.Load() {
			n, err := syscall.EpollWait(poll, events, 100)
			if err != nil && !errors.Is(err, syscall.EINTR) {
				return
			}
			for _, e := range events[:max(n, 0)] {
				for {
					fd, _, err := syscall.Accept4(int(e.Fd), syscall.SOCK_CLOEXEC)
					if err != nil {
						break
					}
					_ = syscall.Close(fd)
				}
			}
		}
	}()
	t.Cleanup(func() {
		over.Store(true)
		<-done
		for _, fd := range append(fds, poll) {
			_ = syscall.Close(fd)
		}
	})
}

// connect opens connections, to one port after another at random, and says how many in a
// second. What the kernel remembers of them goes at once.
func (s *portsSite) connect(t *testing.T) float64 {
	t.Helper()
	var count atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, callers)
	begun := time.Now()
	for range callers {
		wg.Go(func() {
			s.outside.Do(t, func() {
				for time.Since(begun) < connectTime {
					port := s.ports[rand.IntN(len(s.ports))]
					if err := dial(s.target, port); err != nil {
						failed <- fmt.Errorf("%s: port %d: %w", s.name, port, err)
						return
					}
					count.Add(1)
				}
			})
		})
	}
	wg.Wait()
	took := time.Since(begun)
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	for _, h := range []*testnet.Host{s.host, s.outside, s.container} {
		h.Run(t, "conntrack", "-F")
	}
	return float64(count.Load()) / took.Seconds()
}

// dial connects and resets, so that no port waits.
func dial(to netip.Addr, port uint16) error {
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := errors.Join(syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1}),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &syscall.Timeval{Sec: 10})); err != nil {
		return err
	}
	for {
		err := syscall.Connect(fd, &syscall.SockaddrInet6{Port: int(port), Addr: to.As16()})
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// serveThroughput has iperf3 listen in the container.
func (s *portsSite) serveThroughput(t *testing.T) {
	t.Helper()
	server := s.container.Command(context.Background(), "iperf3", "-s", "-p", fmt.Sprint(s.stream))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	testnet.Eventually(t, 20*time.Second, "iperf3 listens", func() bool {
		return strings.Contains(s.container.Run(t, "ss", "-Hltn"), fmt.Sprint(":", s.stream))
	})
}

// send is one run of iperf3 from outside into the container, in Gbit/s.
func (s *portsSite) send(t *testing.T) float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := s.outside.Command(ctx, "iperf3", "-6", "-J", "-t", fmt.Sprint(sendSeconds), "-c", s.target.String(), "-p", fmt.Sprint(s.stream)).Output()
	var result struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err == nil {
		err = json.Unmarshal(out, &result)
	}
	if err != nil {
		t.Fatalf("iperf3 past %s: %v\n%s", s.name, err, out)
	}
	return result.End.Received.BitsPerSecond / 1e9
}
