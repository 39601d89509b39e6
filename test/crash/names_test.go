//go:build netns

package crash_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// onNoLink is a network behind the default route, for whose containers the parent is answered on.
func onNoLink() *inDocker {
	return &inDocker{subnet6: "2001:db8:b::/64", options: map[string]any{"ndproxy": "on"}}
}

// acceptRA is a link's setting now.
func (m *machine) acceptRA(link string) string {
	m.t.Helper()
	return m.host.Run(m.t, "sysctl", "-n", "net.ipv6.conf."+link+".accept_ra")
}

// known waits until the daemon has the records of a link by its name, or has none of that name.
func (m *machine) known(link string, want bool) {
	m.t.Helper()
	testnet.Eventually(m.t, patience, "the records of "+link, func() bool {
		status, err := m.status()
		if err != nil {
			return false
		}
		for _, s := range status.Sysctls {
			if strings.Contains(s.Key, "/"+link+"/") {
				return want
			}
		}
		return !want
	})
}

// stranger connects the host to somebody else by a link of that name, on which there is
// another prefix.
func (m *machine) stranger(link string) *testnet.Host {
	m.t.Helper()
	other := testnet.New(m.t, "stranger")
	m.host.Run(m.t, "sh", "-ec", "ip link add "+link+" type veth peer name s0 netns "+other.Path()+"; ip link set "+link+" up; ip addr add 2001:db8:5::2/64 dev "+link+" nodad")
	other.Run(m.t, "ip", "link", "set", "s0", "up")
	other.Run(m.t, "ip", "addr", "add", "2001:db8:1::77/64", "dev", "s0", "nodad")
	return other
}

// answered waits until a network's container is answered for on the parent of that name, status
// complains of nothing, and nobody is answered on the other link.
func (m *machine) answered(d *inDocker, parent string, other *testnet.Host) {
	m.t.Helper()
	addr, _, _ := strings.Cut(d.address6, "/")
	var n spec.NetworkStatus
	testnet.Eventually(m.t, patience, d.networkID()+" on "+parent, func() bool {
		status, err := m.status()
		for _, s := range status.Networks {
			if s.ID == d.networkID() {
				n = s
			}
		}
		return err == nil && n.Parent == parent && n.IPv6[0].Link() == parent && n.Error == "" && len(n.Notes) == 0 && m.up.Resolve(m.t, addr, "lan0") == m.host.MAC(m.t, parent)
	})
	if is := other.Resolve(m.t, addr, "s0"); is != "" {
		m.t.Errorf("%s is answered for on another link than %s, by %s", addr, parent, is)
	}
}

func (m *machine) run(networks ...*inDocker) {
	m.t.Helper()
	for _, d := range networks {
		if err := errors.Join(d.requestPools(m), d.createNetwork(m), d.requestAddresses(m), d.createEndpoint(m), d.join(m)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// A parent that is renamed while networks need it has its settings back in the end, and another
// link by its former name keeps what its owner has set.
func TestSettingsOfARenamedParent(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	before := m.acceptRA("eth0")
	m.uncounted = true
	m.start(0)
	d := onNoLink()
	if err := errors.Join(d.requestPools(m), d.createNetwork(m)); err != nil {
		t.Fatal(err)
	}
	m.host.Run(t, "ip", "link", "set", "eth0", "name", "wan0")
	m.host.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "xyz0")
	m.host.Run(t, "sysctl", "-w", "net.ipv6.conf.eth0.accept_ra=2")
	m.host.Run(t, "ip", "link", "set", "eth0", "up")
	m.known("wan0", true)
	if err := errors.Join(d.deleteNetwork(m), d.releasePools(m)); err != nil {
		t.Fatal(err)
	}
	m.known("wan0", false)
	if after, other := m.acceptRA("wan0"), m.acceptRA("eth0"); after != before || other != "2" {
		t.Errorf("accept_ra of the renamed parent is %s, and was %s; another link's is %s, and was 2", after, before, other)
	}
}

// While no daemon runs the parent gets another name, and another link its former one, as may be
// where the machine names its cards at a boot: the networks go on behind the same link.
func TestAnotherLinkByTheParentsName(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.uncounted = true
	m.start(0)
	fixed := &inDocker{subnet6: "2001:db8:1:0:8000::/80", options: map[string]any{}}
	lent := &inDocker{id: "b" + networkID[1:], endpoint: "b" + endpointID[1:], sandbox: testnet.New(t, "container"), source: "parent", options: map[string]any{}}
	m.run(fixed, lent)
	m.kill()
	m.host.Run(t, "ip", "link", "set", "eth0", "name", "wan0")
	other := m.stranger("eth0")
	m.host.Run(t, "ip", "-6", "route", "replace", "default", "via", "2001:db8:1::1", "dev", "wan0")
	m.start(0)
	for _, d := range []*inDocker{fixed, lent} {
		m.answered(d, "wan0", other)
	}
	// Longer than a prefix may be away before another one takes its place (internal/prefix/onlink).
	time.Sleep(35 * time.Second)
	for _, d := range []*inDocker{fixed, lent} {
		m.answered(d, "wan0", other)
	}
}

// Two links exchange their names while the daemon runs.
func TestLinksExchangeNames(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.uncounted = true
	other := m.stranger("eth1")
	m.start(0)
	fixed := &inDocker{subnet6: "2001:db8:1:0:8000::/80", options: map[string]any{}}
	lent := &inDocker{id: "b" + networkID[1:], endpoint: "b" + endpointID[1:], sandbox: testnet.New(t, "container"), source: "parent", options: map[string]any{}}
	m.run(fixed, lent)
	m.host.Run(t, "sh", "-ec", "ip link set eth0 name tmp0; ip link set eth1 name eth0; ip link set tmp0 name eth1; ip -6 route replace default via 2001:db8:1::1 dev eth1")
	for _, d := range []*inDocker{fixed, lent} {
		m.answered(d, "eth1", other)
	}
}

// Of a parent that the user has named the name is meant, whatever has it: nobody is answered for
// on a link that has not the prefix while another one has, and status says so.
func TestAnotherLinkByTheNameOfANamedParent(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.uncounted = true
	m.start(0)
	d := &inDocker{subnet6: "2001:db8:1:0:8000::/80", options: map[string]any{"parent": "eth0"}}
	m.run(d)
	addr, _, _ := strings.Cut(d.address6, "/")
	m.kill()
	m.host.Run(t, "ip", "link", "set", "eth0", "name", "wan0")
	other := m.stranger("eth0")
	m.start(0)
	status, err := m.status()
	if err != nil {
		t.Fatal(err)
	}
	if n := status.Networks[0]; n.Parent != "eth0" || !strings.Contains(n.Error, "prefix of link wan0, and not of parent eth0") {
		t.Errorf("parent %s, error %q", n.Parent, n.Error)
	}
	if is := other.Resolve(t, addr, "s0"); is != "" {
		t.Errorf("%s is answered for on the other link, by %s", addr, is)
	}
	m.host.Run(t, "sh", "-ec", "ip link set eth0 name other0; ip link set wan0 name eth0")
	m.answered(d, "eth0", other)
}
