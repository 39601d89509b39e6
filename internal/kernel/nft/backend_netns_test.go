//go:build netns

package nft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/ip6tables"
	"github.com/v6net/v6net/internal/testnet"
)

// kernel is the kernel's side of the firewall.
type kernel interface {
	Apply(context.Context, firewall.Ruleset) error
	Update(context.Context, []firewall.Change) error
	UpdateNetworks(context.Context, []firewall.Change) error
	Counters(context.Context) (firewall.Counters, error)
	Remove(context.Context) error
	Watch(context.Context) error
	Close() error
}

// backend is one way to put rules there.
type backend struct {
	name string
	new  func(*slog.Logger) (kernel, error)
	// programs manage the tables of others that matter to it, and prepare makes the
	// host one where those are used.
	programs [2]string
	tables   []string // in which it may have rules
	prepare  func(testing.TB, *testnet.Host)

	frames     bool // it judges frames at the bridges' ports
	translates bool // and translates prefixes
}

func newNFT(log *slog.Logger) (kernel, error) { return New(log) }

// newIP6Tables checks that the variant is chosen that others use.
func newIP6Tables(variant string) func(*slog.Logger) (kernel, error) {
	return func(log *slog.Logger) (kernel, error) {
		f, err := ip6tables.New(context.Background(), log)
		if err == nil && f.Variant() != variant {
			err = errors.Join(fmt.Errorf("iptables-%s was chosen", f.Variant()), f.Close())
		}
		return f, err
	}
}

var theirTables = []string{"filter", "mangle", "raw", "nat"}

var backends = []backend{
	{name: "nftables", new: newNFT, programs: [2]string{"iptables", "ip6tables"}, tables: []string{"filter"}, prepare: func(testing.TB, *testnet.Host) {}, frames: true, translates: true},
	{name: "iptables-nft", new: newIP6Tables("nft"), programs: [2]string{"iptables-nft", "ip6tables-nft"}, tables: theirTables, prepare: func(testing.TB, *testnet.Host) {}},
	{name: "iptables-legacy", new: newIP6Tables("legacy"), programs: [2]string{"iptables-legacy", "ip6tables-legacy"}, tables: theirTables, prepare: func(t testing.TB, h *testnet.Host) {
		for _, program := range []string{"iptables-legacy", "ip6tables-legacy"} {
			h.Run(t, program, "-N", "SOMEBODYS") // by which it is known as the one in use
		}
	}},
}

// eachBackend runs a test with each. A test waits for most of its time, and is in hosts
// of its own, so that many run in parallel.
func eachBackend(t *testing.T, test func(*testing.T, backend)) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

// eachKind runs a test with nftables and one variant of iptables: what another variant
// would make of the same chains is no question here.
func eachKind(t *testing.T, test func(*testing.T, backend)) {
	t.Parallel()
	for _, b := range backends[:2] {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

// host is a new one on which the backend is at home.
func (b backend) host(t testing.TB, name string) *testnet.Host {
	t.Helper()
	h := testnet.New(t, name)
	b.prepare(t, h)
	return h
}

// open makes a Firewall of the host.
func (b backend) open(t testing.TB, host *testnet.Host) kernel {
	t.Helper()
	var f kernel
	host.Do(t, func() {
		var err error
		if f, err = b.new(slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// rules runs iptables and ip6tables once for each line of arguments.
func (b backend) rules(t testing.TB, host *testnet.Host, lines ...string) {
	t.Helper()
	for _, line := range lines {
		for _, program := range b.programs {
			host.Run(t, append([]string{program}, strings.Fields(line)...)...)
		}
	}
}

// policyDrop makes the host refuse to forward, as Docker does on its start.
func (b backend) policyDrop(t testing.TB, host *testnet.Host) {
	t.Helper()
	b.rules(t, host, "-P FORWARD DROP")
}

// dockerUser adds Docker's chain for the rules of others.
func (b backend) dockerUser(t testing.TB, host *testnet.Host) {
	t.Helper()
	b.rules(t, host, "-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-I FORWARD -j DOCKER-USER")
}

// site is a site on whose host the backend is at home.
func (b backend) site(t testing.TB) *site {
	t.Helper()
	return newSiteOn(t, b)
}
