//go:build netns

package crash_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

// operation is one thing that a container engine does, by one call or more.
type operation struct {
	name string
	do   func(*machine) error
	// undo is what the engine does when it gives up in the middle, or what its user does
	// then; nil: it tries again. The world is then as it was after the operation of the
	// name back.
	undo func(*machine) error
	back string
	// chooses says that what is done again is not the same, but as good: what was had at
	// first stays for a minute. So it is given up.
	chooses bool
}

// scene is a life of networks and containers. Nothing is left in the end.
type scene struct {
	name       string
	operations []operation
	prepare    func(*machine)
	args       []string // more ones of the daemon's
	rare       bool     // it is `make crash`'s alone: what it has of its own is little for the time that it takes
	// loose says that the daemon takes leases for itself, and may have one too many for a
	// minute: then the host has the address after the one that it has otherwise.
	loose bool
}

const (
	networkID  = "a1b2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789abcdef0"
	endpointID = "e1f2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789abcdef1"
)

// restart is the operation that is a start of the daemon: it is killed in that.
const restart = "start with replay"

// inDocker is a network of Docker's with one container.
type inDocker struct {
	id, endpoint string        // empty: networkID, endpointID
	sandbox      *testnet.Host // nil: the machine's one container
	second       bool          // of the container's networks: its link there is eth1, and its way out elsewhere
	internal     bool
	options      map[string]any
	subnet4      string
	subnet6      string // empty: one that source has
	source       string
	// The container's, which its user names: one that was taken back has its rest, so that
	// the next free one is another one.
	want4, want6 string
	hostPort     int
	router       string // that the user names as the gateway, on a parent
	// What IPAM has answered.
	pool4, pool6, gateway4, gateway6, address4, address6, prefix6 string
	link                                                          string // in the container, before the engine takes it
}

func (d *inDocker) networkID() string  { return cmp.Or(d.id, networkID) }
func (d *inDocker) endpointID() string { return cmp.Or(d.endpoint, endpointID) }

// eth is the name of the link in the container.
func (d *inDocker) eth() string {
	if d.second {
		return "eth1"
	}
	return "eth0"
}

func (d *inDocker) container(m *machine) *testnet.Host { return cmp.Or(d.sandbox, m.container) }

func (d *inDocker) scene(name string) scene {
	all := []operation{
		{name: "request pools", do: d.requestPools, undo: d.releasePools, back: ""},
		{name: "create network", do: d.createNetwork, undo: func(m *machine) error { return errors.Join(d.deleteNetwork(m), d.releasePools(m)) }, back: ""},
		{name: "request addresses", do: d.requestAddresses, undo: d.releaseAddresses, back: "create network"},
		{name: "create endpoint", do: d.createEndpoint, undo: d.removeEndpoint, back: "create network"},
		{name: "join", do: d.join, undo: d.removeContainer, back: "create network"},
		{name: "publish", do: func(m *machine) error { return m.docker.publish(d.networkID(), d.endpointID(), 80, d.hostPort) }, undo: func(m *machine) error {
			return errors.Join(m.docker.revoke(d.networkID(), d.endpointID()), d.removeContainer(m))
		}, back: "create network"},
		{name: restart},
		{name: "revoke", do: func(m *machine) error { return m.docker.revoke(d.networkID(), d.endpointID()) }},
		{name: "leave", do: d.leave},
		{name: "delete endpoint", do: func(m *machine) error { return m.docker.deleteEndpoint(d.networkID(), d.endpointID()) }},
		{name: "release addresses", do: d.releaseAddresses},
		{name: "delete network", do: d.deleteNetwork},
		{name: "release pools", do: d.releasePools},
	}
	return scene{name: name, operations: all, prepare: func(*machine) {}}
}

func (d *inDocker) requestPools(m *machine) error {
	for _, f := range []struct {
		v6                     bool
		subnet                 string
		pool, gateway, network *string
	}{{false, d.subnet4, &d.pool4, &d.gateway4, new(string)}, {true, d.subnet6, &d.pool6, &d.gateway6, &d.prefix6}} {
		options := map[string]string{}
		if f.v6 && d.source != "" {
			options["source"] = d.source
		} else if f.subnet == "" {
			continue
		}
		pool, err := m.docker.requestPool(f.subnet, f.v6, options)
		if err != nil {
			return err
		}
		*f.pool, *f.network = pool.PoolID, pool.Pool
		router := ""
		if f.v6 {
			router = d.router
		}
		if *f.gateway, err = m.docker.requestAddress(pool.PoolID, router, true); err != nil {
			return err
		}
	}
	return nil
}

// releasePools is what the engine does, if it has an answer about them.
func (d *inDocker) releasePools(m *machine) error {
	var errs []error
	for pool, gateway := range map[string]string{d.pool4: d.gateway4, d.pool6: d.gateway6} {
		if pool == "" {
			continue
		}
		if gateway != "" {
			errs = append(errs, m.docker.releaseAddress(pool, gateway))
		}
		errs = append(errs, m.docker.releasePool(pool))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// What the engine had no answer about goes by a chore a minute later, or by its user's hand.
	status, err := m.status()
	for _, p := range status.Pools {
		if !p.Used {
			err = errors.Join(err, m.control.ForgetPool(m.t.Context(), p.ID))
		}
	}
	d.pool4, d.pool6, d.gateway4, d.gateway6 = "", "", "", ""
	return err
}

func (d *inDocker) createNetwork(m *machine) error {
	var v4 *network.IPAMData
	if d.pool4 != "" {
		v4 = &network.IPAMData{AddressSpace: "v6net-local", Pool: d.subnet4, Gateway: d.gateway4}
	}
	return m.docker.createNetwork(d.networkID(), d.internal, d.options, v4, &network.IPAMData{AddressSpace: "v6net-local", Pool: d.prefix6, Gateway: d.gateway6})
}

func (d *inDocker) deleteNetwork(m *machine) error { return m.docker.deleteNetwork(d.networkID()) }

func (d *inDocker) requestAddresses(m *machine) (err error) {
	if d.pool4 != "" {
		if d.address4, err = m.docker.requestAddress(d.pool4, d.want4, false); err != nil {
			return err
		}
	}
	d.address6, err = m.docker.requestAddress(d.pool6, d.want6, false)
	return err
}

func (d *inDocker) releaseAddresses(m *machine) error {
	var errs []error
	if d.address4 != "" {
		errs = append(errs, m.docker.releaseAddress(d.pool4, d.address4))
	}
	if d.address6 != "" {
		errs = append(errs, m.docker.releaseAddress(d.pool6, d.address6))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	d.address4, d.address6 = "", ""
	return nil
}

func (d *inDocker) createEndpoint(m *machine) error {
	return m.docker.createEndpoint(d.networkID(), d.endpointID(), d.address4, d.address6)
}

func (d *inDocker) removeEndpoint(m *machine) error {
	return errors.Join(m.docker.deleteEndpoint(d.networkID(), d.endpointID()), d.releaseAddresses(m))
}

// join takes the link into the container, as the engine does.
func (d *inDocker) join(m *machine) error {
	answer, err := m.docker.join(d.networkID(), d.endpointID(), d.container(m).Path())
	if err != nil {
		return err
	}
	d.link = answer.InterfaceName.SrcName
	eth := d.eth()
	m.host.Run(m.t, "ip", "link", "set", "dev", d.link, "netns", d.container(m).Path())
	script := fmt.Sprintf("set -e; ip link set dev %[1]s name %[2]s; sysctl -qw net.ipv6.conf.%[2]s.accept_ra=0 net.ipv6.conf.%[2]s.accept_dad=0; ip addr add %[3]s dev %[2]s nodad", d.link, eth, d.address6)
	if d.address4 != "" {
		script += "; ip addr add " + d.address4 + " dev " + eth
	}
	d.container(m).Run(m.t, "sh", "-c", script+"; ip link set "+eth+" up")
	for _, r := range answer.StaticRoutes {
		if r.RouteType == 1 {
			d.container(m).Run(m.t, "ip", "route", "add", r.Destination, "dev", eth)
		}
	}
	for _, gateway := range []string{answer.Gateway, answer.GatewayIPv6} {
		if gateway != "" && !d.second {
			d.container(m).Run(m.t, "ip", "route", "add", "default", "via", gateway, "dev", eth)
		}
	}
	return nil
}

// leave puts the link back after the call, as the engine does.
func (d *inDocker) leave(m *machine) error {
	if err := m.docker.leave(d.networkID(), d.endpointID()); err != nil {
		return err
	}
	d.putBack(m)
	return nil
}

func (d *inDocker) putBack(m *machine) {
	if d.container(m).Command(m.t.Context(), "ip", "link", "show", d.eth()).Run() != nil {
		return // the daemon has taken it away, or it has never been there
	}
	d.container(m).Run(m.t, "sh", "-c", fmt.Sprintf("set -e; ip link set %[1]s down; ip link set dev %[1]s name %[2]s; ip link set dev %[2]s netns %[3]s", d.eth(), d.link, m.host.Path()))
}

func (d *inDocker) removeContainer(m *machine) error {
	return errors.Join(d.leave(m), d.removeEndpoint(m))
}

// onTwo is a container on two networks: the second one comes and goes, as with `docker network
// connect` and `disconnect`, while it is on the first.
func onTwo(name string, first, second *inDocker) scene {
	s := first.scene(name)
	at := slices.IndexFunc(s.operations, func(o operation) bool { return o.name == restart })
	var coming, going []operation
	others := second.scene(name).operations
	for i, o := range others {
		if o.name == restart {
			coming, going = others[:i:i], others[i+1:]
		}
	}
	for i := range others {
		o := &others[i]
		o.name = "second: " + o.name
		if o.back != "" {
			o.back = "second: " + o.back
		} else {
			o.back = s.operations[at-1].name
		}
	}
	for i := range s.operations {
		s.operations[i].undo = nil // which is tried with a container on one
	}
	s.operations = slices.Concat(s.operations[:at], coming, s.operations[at:at+1], going, s.operations[at+1:])
	return s
}

// inCloud is a network on a prefix that a cloud assigns. The cloud assigns another one
// while a container runs.
func inCloud() scene {
	d := &inDocker{source: "cloud", hostPort: 80, want6: "2001:db8:a000::7", options: map[string]any{"parent": "eth0", "ra": "on"}}
	s := d.scene("renumbering")
	s.prepare = func(m *machine) {
		m.metadata = newMetadata(m)
		m.metadata.assign("2001:db8:a000::/56")
	}
	another := func(name, prefix, want string) operation {
		return operation{name: name, do: func(m *machine) error {
			m.metadata.assign(prefix)
			m.metadata.told(m)
			deadline := time.Now().Add(patience)
			return m.call(func() error {
				for !strings.Contains(m.container.Run(m.t, "ip", "-6", "addr", "show", "dev", "eth0"), want) {
					if !m.runs() || time.Now().After(deadline) {
						return fmt.Errorf("the container has no address of %s", prefix)
					}
					time.Sleep(10 * time.Millisecond)
				}
				return nil
			})
		}}
	}
	at := slices.IndexFunc(s.operations, func(o operation) bool { return o.name == restart })
	s.operations = slices.Insert(s.operations, at, another("renumber", "2001:db8:b000::/56", "2001:db8:b000::7"), another("renumber once more", "2001:db8:c000::/56", "2001:db8:c000::7"))
	first := &s.operations[0]
	first.chooses = true
	request := first.do
	first.do = func(m *machine) error { // of the next life
		m.metadata.assign("2001:db8:a000::/56")
		return request(m)
	}
	return s
}

// inPodman is a network of Podman's with one container. Podman runs the plugin.
type inPodman struct{ network json.RawMessage }

func (p *inPodman) scene(name string) scene {
	return scene{name: name, prepare: func(*machine) {}, operations: []operation{
		{name: "podman network create", do: p.create, undo: p.remove, back: ""},
		{name: "setup", do: p.setup, undo: p.teardown, back: "podman network create"},
		{name: restart},
		{name: "update (setup again)", do: p.reload, undo: func(m *machine) error { return errors.Join(p.teardown(m)) }, back: "podman network create"},
		{name: "teardown", do: p.teardown},
		{name: "podman network rm", do: p.remove},
	}}
}

// run runs the plugin, and answers what it answers.
func (p *inPodman) run(m *machine, input any, args ...string) (answer json.RawMessage, err error) {
	text, err := json.Marshal(input)
	if err != nil {
		return nil, err
	}
	err = m.call(func() error {
		cmd := m.host.Command(m.t.Context(), append([]string{program(m.t, "netavark-v6net")}, args...)...)
		cmd.Env = append(os.Environ(), "V6NET_CONTROL_SOCKET="+m.controlSocket())
		cmd.Stdin = bytes.NewReader(text)
		out, err := cmd.Output()
		answer = out
		if err != nil {
			return fmt.Errorf("netavark-v6net %s: %w: %s", args[0], err, out)
		}
		return nil
	})
	return answer, err
}

const podmanNetwork = `{"name": "web", "id": "` + networkID + `", "driver": "v6net", "created": "0001-01-01T00:00:00Z", "ipv6_enabled": true, "internal": false, "dns_enabled": false,
	"subnets": [{"subnet": "2001:db8:b::/64"}, {"subnet": "10.81.0.0/24"}], "options": {"ndproxy": "on", "parent": "eth0"}}`

func (p *inPodman) file(m *machine) string { return filepath.Join(m.podman(), "web.json") }

func (p *inPodman) create(m *machine) (err error) {
	if p.network, err = p.run(m, json.RawMessage(podmanNetwork), "create"); err != nil {
		return err
	}
	return os.WriteFile(p.file(m), p.network, 0o600)
}

// remove is podman network rm, or what becomes of a network that Podman has no answer about.
func (p *inPodman) remove(m *machine) error {
	if err := os.Remove(p.file(m)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// It goes when it has been away for a second; one that never was there after a minute.
	return m.call(func() error {
		if err := m.control.DeleteNetwork(m.t.Context(), networkID); !errors.Is(err, spec.ErrNotFound) {
			return err
		}
		return nil
	})
}

func (p *inPodman) call() any {
	return p.callOf(strings.Repeat("c0", 32), "2001:db8:b::7", "10.81.0.7", 8080)
}

// callOf is what Podman says of a container.
func (p *inPodman) callOf(id, v6, v4 string, hostPort int) any {
	return map[string]any{"container_id": id, "container_name": "web", "network": p.network,
		"port_mappings":   []map[string]any{{"container_port": 80, "host_ip": "", "host_port": hostPort, "protocol": "tcp", "range": 1}},
		"network_options": map[string]any{"interface_name": "eth0", "static_ips": []string{v6, v4}, "static_mac": nil, "aliases": []string{}, "options": nil}}
}

func (p *inPodman) setup(m *machine) error {
	_, err := p.run(m, p.call(), "setup", m.container.Path())
	return err
}

func (p *inPodman) teardown(m *machine) error {
	_, err := p.run(m, p.call(), "teardown", m.container.Path())
	return err
}

// reload is podman network reload.
func (p *inPodman) reload(m *machine) error { return errors.Join(p.teardown(m), p.setup(m)) }
