//go:build netns

package crash_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// needed are the capabilities of config.json and the unit.
var needed = []string{"net_admin", "net_raw", "bpf", "sys_admin", "net_bind_service"}

// feats are what takes a capability, each with how it is seen to work.
var feats = map[string]func(*privileged) error{
	"answers by eBPF":           (*privileged).answersFast,
	"keeps advertisements away": (*privileged).guards,
	"publishes a reserved port": (*privileged).publishes,
	"renumbers what runs":       (*privileged).renumbers,
}

// privileged is a machine whose daemon has some capabilities.
type privileged struct {
	*machine
	bridge *inDocker
}

func (p *privileged) runs() error {
	p.bridge = &inDocker{subnet4: "10.80.0.0/24", source: "cloud", options: map[string]any{"parent": "eth0", "ndproxy": "on"}}
	return errors.Join(p.bridge.requestPools(p.machine), p.bridge.createNetwork(p.machine), p.bridge.requestAddresses(p.machine),
		p.bridge.createEndpoint(p.machine), p.bridge.join(p.machine))
}

func (p *privileged) answersFast() error {
	var path string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		status, err := p.status()
		if err != nil {
			return err
		}
		if len(status.Proxies) == 1 && status.Proxies[0].Error == "" {
			if path = status.Proxies[0].Path + " " + status.Proxies[0].PathError; path == "ebpf " || status.Proxies[0].PathError != "" {
				break
			}
		}
	}
	if path != "ebpf " {
		return errors.New(path)
	}
	return nil
}

func (p *privileged) guards() error {
	d := &inDocker{id: "9" + networkID[1:], subnet6: "2001:db8:c::/64", router: "2001:db8:c::1", options: map[string]any{"mode": "macvlan", "parent": "eth0", "ra": "off"}}
	return errors.Join(d.requestPools(p.machine), d.createNetwork(p.machine))
}

func (p *privileged) publishes() error { return p.docker.publish(networkID, endpointID, 80, 80) }

func (p *privileged) renumbers() error {
	p.metadata.assign("2001:db8:b000::/56")
	p.metadata.told(p.machine)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if strings.Contains(p.container.Run(p.t, "ip", "-6", "addr", "show", "dev", "eth0"), "2001:db8:b000:") {
			return nil
		}
		status, err := p.status()
		if err != nil {
			return err
		}
		for _, n := range status.Networks {
			for _, note := range n.Notes {
				if strings.Contains(note, "keeps the addresses that it had before") {
					return errors.New(note)
				}
			}
		}
		if time.Now().After(deadline) {
			return errors.New("the container has no address of the new prefix, and status does not say why")
		}
	}
}

// The daemon has the capabilities that it takes and no other one: without each of them
// something fails, and that alone.
func TestEachCapabilityIsNeeded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		without []string
		fails   []string // nil: it does not even start
		starts  bool
	}{
		{nil, nil, true},
		{[]string{"net_admin"}, nil, false},
		{[]string{"net_raw"}, nil, false},
		{[]string{"bpf"}, nil, true}, // which is a part of sys_admin, and stays for those who take that away:
		{[]string{"sys_admin"}, []string{"renumbers what runs"}, true},
		{[]string{"sys_admin", "bpf"}, []string{"answers by eBPF", "keeps advertisements away", "renumbers what runs"}, true},
		{[]string{"net_bind_service"}, []string{"publishes a reserved port"}, true},
	} {
		t.Run("without "+strings.Join(tc.without, " and "), func(t *testing.T) {
			m := newMachine(t)
			m.uncounted = true
			m.up.Run(t, "ip", "addr", "add", "2001:db8:c::1/64", "dev", "lan0", "nodad")
			m.metadata = newMetadata(m)
			m.metadata.assign("2001:db8:a000::/56")
			has := "-all"
			for _, capability := range needed {
				if !slices.Contains(tc.without, capability) {
					has += ",+" + capability
				}
			}
			m.by = []string{"setpriv", "--bounding-set=" + has, "--inh-caps=-all"}
			if !tc.starts {
				out, err := m.host.Command(t.Context(), m.command()...).CombinedOutput()
				if err == nil || !strings.Contains(string(out), "not permitted") {
					t.Errorf("it starts, or says something else than that it is not permitted to: %v\n%s", err, out)
				}
				return
			}
			m.start(0)
			p := &privileged{machine: m}
			if err := p.runs(); err != nil {
				t.Fatal(err)
			}
			for _, feat := range slices.Sorted(maps.Keys(feats)) {
				err := feats[feat](p)
				if failed := err != nil; failed != slices.Contains(tc.fails, feat) {
					t.Errorf("%s: %v; fails are to %q", feat, err, tc.fails)
				} else if failed {
					t.Logf("%s: %v", feat, fmt.Sprint(err))
				}
			}
		})
	}
}
