//go:build netns

package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// machine is this host with the daemon as a process of its own, and the world outside.
type machine struct {
	outside
	*program
	client  *control.Client
	args    string
	journal string // its file
}

// open starts the daemon on an empty journal. In the end all networks go, and it.
func (m *machine) open(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	m.journal = filepath.Join(dir, "v6net.db")
	m.args = fmt.Sprintf("daemon --state %s --plugin-socket %s/v6net.sock --control-socket %[2]s/control.sock --podman-folder=", m.journal, dir)
	m.client = control.NewClient(filepath.Join(dir, "control.sock"))
	m.begin(t)
	t.Cleanup(func() {
		status, err := m.client.Status(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, n := range status.Networks {
			if err := m.client.DeleteNetwork(context.Background(), n.ID); err != nil {
				t.Error(err)
			}
		}
		m.end(t)
	})
}

// begin starts the daemon, and waits until it is there.
func (m *machine) begin(t *testing.T) {
	t.Helper()
	m.program = startProgram(t, testnet.Self(t), m.args)
	testnet.Eventually(t, time.Minute, "the daemon answers", func() bool { // it may have much to do first
		_, err := m.client.Status(t.Context())
		return err == nil
	})
}

func (m *machine) status(t *testing.T) spec.Status {
	t.Helper()
	status, err := m.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// runOn makes network n, as a container engine does, and a container on it whose port 80
// is published. options are key, value and so on.
func (m *machine) runOn(t *testing.T, n int, pool spec.PoolRequest, options ...string) (container *testnet.Host, addr netip.Addr) {
	t.Helper()
	given := map[string]string{}
	for i := 0; i < len(options); i += 2 {
		given[options[i]] = options[i+1]
	}
	parsed, err := spec.ParseOptions(given)
	if err != nil {
		t.Fatal(err)
	}
	network := spec.NetworkRequest{ID: number("a", n), Name: fmt.Sprint("net", n), FrontEnd: "podman", Options: parsed,
		IPv6: []spec.SubnetRequest{{Pool: pool}}}
	if _, err := m.client.MakeNetwork(t.Context(), network); err != nil {
		t.Fatal(err)
	}
	container, ep := attach(t, m.client, network, n)
	return container, ep.IPv6.Addr()
}
