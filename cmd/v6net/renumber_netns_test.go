//go:build netns

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/store"
	"github.com/v6net/v6net/internal/testnet"
)

// lender is a source that lends what the test says.
type lender struct {
	mu   sync.Mutex
	lent []spec.Delegation
}

func (l *lender) Delegated(context.Context, spec.Source, string) ([]spec.Delegation, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lent) == 0 {
		return nil, errors.New("the test lends nothing")
	}
	return l.lent, nil
}

func (l *lender) Keep([]spec.SourceOnLink)        {}
func (l *lender) LinkRenamed(string, string)      {}
func (l *lender) Status() []spec.DelegationStatus { return nil }

// site is a daemon on this host, whose eth0 leads to a router that knows the way to
// its delegations, and is the world outside.
type site struct {
	*daemon
	outside
	lender *lender
	socket string // of control
	scrape string // where metrics are, another one
	start  func()
	stop   func() // as if killed: the kernel stays as it is
}

func newSite(t *testing.T) *site {
	self := testnet.Self(t)
	s := &site{lender: &lender{}, outside: newOutside(t)}
	s.up.Run(t, "ip", "route", "add", "2001:db8::/33", "via", self.LinkLocal(t, "eth0"), "dev", "lan0")
	s.up.Run(t, "ip", "route", "add", "2001:db8:8000::/33", "via", self.LinkLocal(t, "eth0"), "dev", "lan0")

	dir := t.TempDir()
	var commands cli
	parser, err := kong.New(&commands, kong.Vars{"control_socket": filepath.Join(dir, "control.sock"), "podman_folder": dir}, kong.BindTo(t.Context(), (*context.Context)(nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{"daemon", "--state", filepath.Join(dir, "v6net.db"), "--plugin-socket", filepath.Join(dir, "v6net.sock"), "--metrics", "unix://" + filepath.Join(dir, "metrics.sock")}); err != nil {
		t.Fatal(err)
	}
	s.scrape = filepath.Join(dir, "metrics.sock")
	s.socket = commands.Daemon.ControlSocket
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s.start = func() {
		journal, err := store.Open(commands.Daemon.State)
		if err != nil {
			t.Fatal(err)
		}
		if s.daemon, err = commands.Daemon.open(context.Background(), journal, log); err != nil {
			t.Fatal(err)
		}
		s.engine.Sources = s.lender
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error)
		go func() { served <- commands.Daemon.serve(ctx, s.daemon, log) }()
		within(t, "the daemon answers", func() bool {
			c, err := net.Dial("unix", commands.Daemon.ControlSocket)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
		s.stop = sync.OnceFunc(func() {
			cancel()
			if err := errors.Join(<-served, s.close(), journal.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	s.start()
	t.Cleanup(func() {
		for _, n := range s.engine.Status(context.Background()).Networks {
			if err := s.engine.DeleteNetwork(context.Background(), n.ID); err != nil {
				t.Error(err)
			}
		}
		s.stop()
	})
	return s
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// lend has the source lend this from now on.
func (s *site) lend(t *testing.T, lent ...spec.Delegation) {
	t.Helper()
	s.lender.mu.Lock()
	s.lender.lent = lent
	s.lender.mu.Unlock()
	s.engine.DelegationsChanged(t.Context(), spec.SourcePD, "eth0", lent)
}

func lentUntil(prefix string, preferred, valid time.Duration) spec.Delegation {
	return spec.Delegation{Source: spec.SourcePD, Parent: "eth0", Prefix: netip.MustParsePrefix(prefix), Origin: "the test",
		Preferred: time.Now().Add(preferred), Valid: time.Now().Add(valid)}
}

func number(letter string, n int) string { return fmt.Sprintf("%s%010x0", letter, n) }

// run makes a network on a part of what is lent, and a container with a server in
// it that echoes what it gets on port 80.
func (s *site) run(t *testing.T, n int) (container *testnet.Host, addr netip.Addr) {
	t.Helper()
	return s.runOn(t, n, spec.DefaultOptions(), spec.PoolRequest{V6: true, Source: spec.SourcePD, Allocation: spec.Sequential})
}

// runOn is run with options of the network and of its pool.
func (s *site) runOn(t *testing.T, n int, options spec.Options, pool spec.PoolRequest) (container *testnet.Host, addr netip.Addr) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	p, err := s.engine.RequestPool(ctx, pool)
	must(err)
	gateway, err := s.engine.RequestAddress(ctx, p.ID, netip.Addr{}, true)
	must(err)
	network := spec.Network{ID: number("a", n), Options: options, IPv6: []spec.Subnet{{Prefix: p.Prefix, Gateway: gateway.Addr()}}}
	must(s.engine.CreateNetwork(ctx, network))
	lease, err := s.engine.RequestAddress(ctx, p.ID, netip.Addr{}, false)
	must(err)
	ep, err := s.engine.CreateEndpoint(ctx, spec.Endpoint{ID: number("e", n), NetworkID: network.ID, IPv6: lease})
	must(err)
	container = testnet.New(t, fmt.Sprintf("c%d", n))
	attachment, err := s.engine.Join(ctx, network.ID, ep.ID, container.Path())
	must(err)
	furnish(t, container, attachment, ep)
	must(s.engine.Publish(ctx, network.ID, ep.ID, []spec.Port{{Protocol: "tcp", Port: 80, HostPort: 80}}))
	echo(t, container)
	return container, ep.IPv6.Addr()
}

// A provider lends another prefix: connections go on as they are, new ones find the
// container at its new address, and what has ended is gone everywhere.
func TestRenumberARunningContainer(t *testing.T) {
	s := newSite(t)
	s.lend(t, lentUntil("2001:db8:a000::/56", time.Hour, 2*time.Hour))
	container, addr := s.run(t, 1)
	if addr.String() != "2001:db8:a000::2" {
		t.Fatalf("the container has %s", addr)
	}
	s.answers(t, addr.String())
	talk := s.stream(t, addr.String())

	s.lend(t, lentUntil("2001:db8:a000::/56", 0, time.Hour), lentUntil("2001:db8:b000::/56", time.Hour, 2*time.Hour))
	s.answers(t, "2001:db8:b000::2")
	if !s.connects(t, addr.String()) {
		t.Error("the former address does not answer any more, while it is valid")
	}
	if route := container.Run(t, "ip", "-6", "route", "get", "2001:db8:ffff::1"); !strings.Contains(route, "src 2001:db8:b000::2") {
		t.Errorf("what the container begins comes from another address: %s", route)
	}
	if out := s.up.Run(t, "sh", "-c", "ping -c 1 -W 1 2001:db8:b000:99::1 || true"); !strings.Contains(out, "nreachable") {
		t.Errorf("an unused part of the delegation is not unreachable:\n%s", out)
	}
	self := testnet.Self(t)
	self.Run(t, "ip", "-6", "route", "del", "unreachable", "2001:db8:b000::/56")
	within(t, "the route that somebody removed is back", func() bool {
		return strings.Contains(self.Run(t, "ip", "-6", "route", "show", "type", "unreachable"), "2001:db8:b000::/56")
	})

	// The daemon ends and comes back, and the conversation goes on.
	s.stop()
	s.start()
	s.lend(t, lentUntil("2001:db8:a000::/56", 0, time.Hour), lentUntil("2001:db8:b000::/56", time.Hour, 2*time.Hour))
	s.answers(t, "2001:db8:b000::2")

	sent := talk.end(t)
	t.Logf("%d bytes went to and fro over the former prefix meanwhile, none lost", sent)
	if sent == 0 {
		t.Error("nothing went to and fro")
	}

	s.lend(t, lentUntil("2001:db8:a000::/56", 0, 2*time.Second), lentUntil("2001:db8:b000::/56", time.Hour, 2*time.Hour))
	within(t, "the former address leaves the container", func() bool {
		return !strings.Contains(container.Run(t, "ip", "-6", "address", "show", "dev", "eth0"), "2001:db8:a000::2")
	})
	within(t, "the former gateway leaves the bridge", func() bool {
		return !strings.Contains(testnet.Self(t).Run(t, "ip", "-6", "address"), "2001:db8:a000::1")
	})
	if s.connects(t, addr.String()) {
		t.Error("the former address answers though it has ended")
	}
	s.answers(t, "2001:db8:b000::2")
}
