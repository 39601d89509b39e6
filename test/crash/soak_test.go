//go:build netns

package crash_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testnet"
)

const (
	mostNetworks   = 4
	mostContainers = 6
	restEvery      = 40 // steps: then all is removed, and nothing may be left
)

// soak is a host with whatever a seed does to it, and the model of what there has to be.
type soak struct {
	*machine
	random     *rand.Rand
	kills      bool
	networks   map[string]*soakNetwork
	containers map[string]*soakContainer
	free       []*testnet.Host // sandboxes that no container is in
	made       int
	newest     string // the container that came last, until the host has reached it
	router     string // its link-local address
	mac        string // the host's on its parent
	prefix     int    // that the cloud assigns
	empty      world
	rest       usage // when there was nothing for the first time
	killed     int
}

type soakNetwork struct {
	id           string
	cloud        bool
	pool4, pool6 string
	gw4, gw6     string
	prefix6      string
}

type soakContainer struct {
	id, network  string
	sandbox      *testnet.Host
	link         string
	addr4, addr6 string
}

// usage is what a process holds.
type usage struct{ goroutines, files, threads, memory int }

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d files, %d threads, %d KiB", u.goroutines, u.files, u.threads, u.memory)
}

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)$`)

func (m *machine) usage() usage {
	m.t.Helper()
	u := usage{}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", m.metrics())
	}}}
	answer, err := client.Get("http://v6net/metrics")
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	found := goroutines.FindSubmatch(text)
	if err != nil || found == nil {
		m.t.Fatalf("metrics: %v\n%s", err, text)
	}
	u.goroutines, _ = strconv.Atoi(string(found[1]))
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.daemon.PID()))
	u.files = len(files)
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.daemon.PID()))
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		number, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		switch name {
		case "Threads":
			u.threads, _ = strconv.Atoi(number)
		case "VmRSS":
			u.memory, _ = strconv.Atoi(number)
		}
	}
	return u
}

// TestSoak does this and that for a while. V6NET_SEED repeats it, V6NET_SOAK says how long.
func TestSoak(t *testing.T) {
	t.Parallel()
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("V6NET_SEED"), "2"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	long, err := time.ParseDuration(cmp.Or(os.Getenv("V6NET_SOAK"), "2m"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("once more: V6NET_SEED=%d V6NET_SOAK=%v make soak", seed, long)
	s := &soak{machine: newMachine(t), random: rand.New(rand.NewPCG(seed, 0)), networks: map[string]*soakNetwork{}, containers: map[string]*soakContainer{}}
	s.metadata = newMetadata(s.machine)
	s.assign()
	for range mostContainers {
		s.free = append(s.free, testnet.New(t, "container"))
	}
	s.args = []string{"--metrics", "unix://" + s.machine.metrics()}
	s.start(0)
	s.router, s.mac = s.up.LinkLocal(t, "lan0"), s.host.MAC(t, "eth0")
	s.empty = s.settled()
	// In the first half it is killed as well; in the second one, which shows what one
	// process gathers, it is not.
	began, steps := time.Now(), 0
	for ; time.Since(began) < long; steps++ {
		kills := time.Since(began) < long/2
		if s.kills && !kills {
			s.remove()
			s.rest = s.usage()
		}
		s.kills = kills
		what := s.step()
		if err := s.check(); err != nil {
			t.Fatalf("step %d, %s: %v", steps, what, err)
		}
		if err := s.reach(); err != nil {
			t.Fatalf("step %d, %s: %v", steps, what, err)
		}
		if steps%restEvery == restEvery-1 {
			s.remove()
		}
	}
	s.remove()
	var last usage
	holds := func() bool { // a socket may be open for a moment
		last = s.usage()
		return s.rest.files != 0 && (last.files > s.rest.files || last.goroutines > s.rest.goroutines+2 || last.threads > s.rest.threads+8 || last.memory > s.rest.memory+16<<10)
	}
	more := holds()
	for deadline := time.Now().Add(patience); more && time.Now().Before(deadline); more = holds() {
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%d steps, killed %d times; with nothing there the daemon has %v, and had %v when the second half began", steps, s.killed, last, s.rest)
	if more {
		t.Errorf("it holds more than before")
	}
}

func (s *soak) id(kind string) string {
	s.made++
	hash := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, s.made))
	return hex.EncodeToString(hash[:])
}

// step does something, with a crash in it perhaps.
func (s *soak) step() string {
	type action struct {
		name   string
		weight int
		do     func() error
	}
	actions := []action{
		{"create network", 3 * (mostNetworks - len(s.networks)), s.createNetwork},
		{"run container", 3 * len(s.networks) * min(1, len(s.free)), s.runContainer},
		{"stop container", 3 * len(s.containers), s.stopContainer},
		{"delete network", len(s.networks), s.deleteNetwork},
		{"renumber", 2 * len(s.networks), func() error { s.assign(); return nil }},
		{"bridge removed", len(s.networks), s.loseBridge},
		{"parent down and up", 1, s.flap},
	}
	if s.kills {
		actions = append(actions, action{"killed", 2, func() error { s.kill(); return nil }})
	}
	sum := 0
	for _, a := range actions {
		sum += a.weight
	}
	pick := s.random.IntN(sum)
	for _, a := range actions {
		if pick -= a.weight; pick >= 0 {
			continue
		}
		s.daemon.Count(0)
		if s.kills && s.random.IntN(3) == 0 {
			s.daemon.Count(1 + s.random.IntN(50))
		}
		s.cut = func() bool {
			s.again()
			return s.random.IntN(2) == 0
		}
		err := a.do()
		s.cut = nil
		if s.daemon == nil || !s.runs() {
			s.again()
		}
		s.daemon.Count(0)
		what := a.name
		if err != nil {
			what += ": " + err.Error()
			if !errors.Is(err, errGivenUp) {
				s.t.Fatal(what)
			}
		}
		return what
	}
	panic("no action")
}

func (s *soak) again() {
	s.killed++
	s.machine.kill()
	s.start(0)
}

func (s *soak) assign() {
	s.prefix++
	s.metadata.assign(fmt.Sprintf("2001:db8:%x00::/56", 0xa0+s.prefix%0x40))
	if s.daemon == nil {
		return
	}
	s.metadata.told(s.machine)
}

func (s *soak) createNetwork() error {
	n := &soakNetwork{id: s.id("network"), cloud: s.random.IntN(3) == 0}
	err := s.makeNetwork(n)
	if err == nil {
		s.networks[n.id] = n
		return s.forgetUnused()
	}
	s.cut = func() bool { s.again(); return true }
	return errors.Join(err, s.dropNetwork(n))
}

func (s *soak) makeNetwork(n *soakNetwork) error {
	options := map[string]any{"parent": "eth0"}
	subnet6, ipam := fmt.Sprintf("2001:db8:%x::/64", 0x100+s.made%0x1000), map[string]string{}
	var v4 *network.IPAMData
	if n.cloud {
		subnet6, ipam["source"] = "", "cloud"
	} else {
		options["ndproxy"] = "on"
		pool, err := s.docker.requestPool(fmt.Sprintf("10.%d.0.0/24", 1+s.made%200), false, nil)
		if err != nil {
			return err
		}
		n.pool4 = pool.PoolID
		if n.gw4, err = s.docker.requestAddress(n.pool4, "", true); err != nil {
			return err
		}
		v4 = &network.IPAMData{Pool: pool.Pool, Gateway: n.gw4}
	}
	if s.random.IntN(2) == 0 {
		options["ra"] = "on"
	}
	pool, err := s.docker.requestPool(subnet6, true, ipam)
	if err != nil {
		return err
	}
	n.pool6, n.prefix6 = pool.PoolID, pool.Pool
	if n.gw6, err = s.docker.requestAddress(n.pool6, "", true); err != nil {
		return err
	}
	return s.docker.createNetwork(n.id, false, options, v4, &network.IPAMData{Pool: n.prefix6, Gateway: n.gw6})
}

// dropNetwork is docker network rm.
func (s *soak) dropNetwork(n *soakNetwork) error {
	if err := s.docker.deleteNetwork(n.id); err != nil {
		return err
	}
	for pool, gateway := range map[string]string{n.pool4: n.gw4, n.pool6: n.gw6} {
		if pool == "" {
			continue
		}
		if err := errors.Join(s.docker.releaseAddress(pool, gateway), s.docker.releasePool(pool)); err != nil {
			return err
		}
	}
	return s.forgetUnused()
}

// forgetUnused is what a user does about pools that the engine has had no answer about: asked
// again the daemon has given it another part of what is lent. They would go in a minute.
func (s *soak) forgetUnused() error {
	return s.call(func() error {
		status, err := s.status()
		for _, p := range status.Pools {
			if !p.Used {
				if e := s.control.ForgetPool(s.t.Context(), p.ID); !errors.Is(e, spec.ErrNotFound) {
					err = errors.Join(err, e)
				}
			}
		}
		return err
	})
}

func pick[T any](s *soak, from map[string]T) T {
	keys := slices.Sorted(maps.Keys(from))
	return from[keys[s.random.IntN(len(keys))]]
}

func (s *soak) deleteNetwork() error {
	n := pick(s, s.networks)
	for _, id := range slices.Sorted(maps.Keys(s.containers)) {
		if s.containers[id].network == n.id {
			return nil // the engine refuses to
		}
	}
	s.cut = func() bool { s.again(); return true }
	if err := s.dropNetwork(n); err != nil {
		return err
	}
	delete(s.networks, n.id)
	return nil
}

func (s *soak) runContainer() error {
	n := pick(s, s.networks)
	c := &soakContainer{id: s.id("endpoint"), network: n.id, sandbox: s.free[0]}
	s.free = s.free[1:]
	err := s.connect(n, c)
	if err == nil {
		s.containers[c.id], s.newest = c, c.id
		return nil
	}
	s.cut = func() bool { s.again(); return true }
	return errors.Join(err, s.disconnect(c))
}

func (s *soak) connect(n *soakNetwork, c *soakContainer) (err error) {
	if n.pool4 != "" {
		if c.addr4, err = s.docker.requestAddress(n.pool4, "", false); err != nil {
			return err
		}
	}
	if c.addr6, err = s.docker.requestAddress(n.pool6, "", false); err != nil {
		return err
	}
	if err := s.docker.createEndpoint(n.id, c.id, c.addr4, c.addr6); err != nil {
		return err
	}
	answer, err := s.docker.join(n.id, c.id, c.sandbox.Path())
	if err != nil {
		return err
	}
	c.link = answer.InterfaceName.SrcName
	s.host.Run(s.t, "ip", "link", "set", "dev", c.link, "netns", c.sandbox.Path())
	script := "set -e; ip link set dev " + c.link + " name eth0; sysctl -qw net.ipv6.conf.eth0.accept_ra=0; ip addr add " + c.addr6 + " dev eth0 nodad"
	if c.addr4 != "" {
		script += "; ip addr add " + c.addr4 + " dev eth0"
	}
	c.sandbox.Run(s.t, "sh", "-c", script+"; ip link set eth0 up")
	port := 1 + s.random.IntN(60000)
	return s.docker.publish(n.id, c.id, port, port)
}

func (s *soak) disconnect(c *soakContainer) error {
	n := s.networks[c.network]
	if err := errors.Join(s.docker.revoke(n.id, c.id), s.docker.leave(n.id, c.id)); err != nil {
		return err
	}
	if c.sandbox.Command(s.t.Context(), "ip", "link", "show", "eth0").Run() == nil {
		c.sandbox.Run(s.t, "sh", "-c", "set -e; ip link set eth0 down; ip link set dev eth0 name "+c.link+"; ip link set dev "+c.link+" netns "+s.host.Path())
	}
	if err := s.docker.deleteEndpoint(n.id, c.id); err != nil {
		return err
	}
	for _, a := range [][2]string{{n.pool4, c.addr4}, {n.pool6, c.addr6}} {
		if a[1] != "" {
			if err := s.docker.releaseAddress(a[0], a[1]); err != nil {
				return err
			}
		}
	}
	s.free = append(s.free, c.sandbox)
	delete(s.containers, c.id)
	return nil
}

func (s *soak) stopContainer() error {
	s.cut = func() bool { s.again(); return true } // an engine goes on with what it takes down
	return s.disconnect(pick(s, s.containers))
}

func (s *soak) loseBridge() error {
	s.host.Run(s.t, "ip", "link", "del", spec.BridgeName(pick(s, s.networks).id))
	return nil
}

func (s *soak) flap() error {
	s.host.Run(s.t, "sh", "-c", "ip link set eth0 down; ip link set eth0 up; ip -6 addr replace 2001:db8:1::2/64 dev eth0; ip -6 route replace default via 2001:db8:1::1 dev eth0")
	return nil
}

// check waits for what has to be, and says what is not.
func (s *soak) check() (err error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if err = s.differs(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// reach has the host reach the container that came last, by which it gets to know a neighbour.
func (s *soak) reach() error {
	c := s.containers[s.newest]
	if c == nil {
		return nil
	}
	s.newest = ""
	address, _, _ := strings.Cut(c.addr6, "/")
	var out []byte
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if out, err = s.host.Command(s.t.Context(), "ping", "-6", "-c", "1", "-W", "1", address).CombinedOutput(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the host does not reach container %s at %s: %w\n%s", c.id, address, err, out)
}

// strangers are neighbours that the host remembers, and that are no machine of its own link. The
// kernel takes its own advertisements on the parent, which it hears, for those of a neighbour.
func (s *soak) strangers() []string {
	var left []string
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(s.host.Run(s.t, "ip", family, "neigh", "show")) {
			address, _, _ := strings.Cut(line, " ")
			known := slices.Contains([]string{"2001:db8:1::1", metadataAddress, s.router, telling}, address) || strings.Contains(line, s.mac)
			if !known || !strings.Contains(line, " dev eth0 ") {
				left = append(left, strings.TrimSpace(line))
			}
		}
	}
	return left
}

// differs compares the host with the model.
func (s *soak) differs() error {
	status, err := s.status()
	if err != nil {
		return err
	}
	var wantLinks, isLinks, wantLive, isLive []string
	for _, n := range status.Networks {
		if s.networks[n.ID] == nil || n.Phase != spec.PhaseReady || n.Error != "" || len(n.Notes) > 0 {
			return fmt.Errorf("network %s: it is known: %t, phase %s, error %q, notes %q", n.ID, s.networks[n.ID] != nil, n.Phase, n.Error, n.Notes)
		}
		wantLinks = append(wantLinks, spec.BridgeName(n.ID))
		current := n.Present()
		for _, ep := range n.Endpoints {
			c := s.containers[ep.ID]
			if c == nil || !ep.Joined || ep.Phase != spec.PhaseReady {
				return fmt.Errorf("endpoint %s: it is known: %t, joined %t, phase %s", ep.ID, c != nil, ep.Joined, ep.Phase)
			}
			wantLinks = append(wantLinks, spec.VethName(ep.ID))
			in := c.sandbox.Run(s.t, "ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global")
			for _, a := range n.AddressesOf(ep) {
				if a.Is6() {
					wantLive = append(wantLive, a.String())
					if !strings.Contains(in, " "+a.String()+"/") {
						return fmt.Errorf("container %s has not %s:\n%s", ep.ID, a, in)
					}
				}
			}
			if s.networks[n.ID].cloud && !strings.Contains(in, strings.TrimSuffix(current[0].Prefix.Masked().Addr().String(), ":")) {
				return fmt.Errorf("container %s has no address of %s:\n%s", ep.ID, current[0].Prefix, in)
			}
		}
	}
	endpoints := len(wantLinks) - len(status.Networks)
	if len(status.Networks) != len(s.networks) || endpoints != len(s.containers) || status.Error != "" {
		return fmt.Errorf("%d networks and %d endpoints, want %d and %d; error %q", len(status.Networks), endpoints, len(s.networks), len(s.containers), status.Error)
	}
	for _, p := range status.Pools {
		if !p.Used {
			return fmt.Errorf("pool %s is nobody's", p.ID)
		}
	}
	for _, l := range strings.Split(s.host.Run(s.t, "ls", "/proc/sys/net/ipv6/conf"), "\n") {
		if strings.HasPrefix(l, spec.LinkPrefix) {
			isLinks = append(isLinks, l)
		}
	}
	rules, err := s.rules()
	if err != nil {
		return err
	}
	for _, r := range rules {
		if strings.Contains(r, `"name":"live6"`) {
			_, elements, _ := strings.Cut(r, `"elem":[`)
			elements, _, _ = strings.Cut(elements, "]")
			for e := range strings.SplitSeq(elements, ",") {
				if e != "" && !strings.HasPrefix(r, "{") && strings.HasPrefix(e, `"`) {
					isLive = append(isLive, strings.Trim(e, `"`))
				}
			}
		}
	}
	for _, l := range []*[]string{&wantLinks, &isLinks, &wantLive, &isLive} {
		slices.Sort(*l)
	}
	if !slices.Equal(wantLinks, isLinks) {
		return fmt.Errorf("links of ours: %q, want %q", isLinks, wantLinks)
	}
	if strings.Contains(fmt.Sprint(rules), `"live6"`) && !slices.Equal(wantLive, isLive) {
		return fmt.Errorf("live addresses in the rules: %q, want %q", isLive, wantLive)
	}
	want := "0"
	if len(s.networks) > 0 {
		want = "1"
	}
	if is := s.host.Run(s.t, "cat", "/proc/sys/net/ipv6/conf/all/forwarding"); is != want {
		return fmt.Errorf("the host forwards: %s, want %s", is, want)
	}
	return nil
}

// remove takes everything down. Nothing is left.
func (s *soak) remove() {
	s.daemon.Count(0)
	for _, id := range slices.Sorted(maps.Keys(s.containers)) {
		if err := s.disconnect(s.containers[id]); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.networks)) {
		if err := s.dropNetwork(s.networks[id]); err != nil {
			s.t.Fatal(err)
		}
		delete(s.networks, id)
	}
	if _, err := s.await("with nothing left", s.empty); err != nil {
		s.t.Fatal(err)
	}
	if left := s.strangers(); len(left) > 0 {
		s.t.Fatalf("with nothing left the host remembers neighbours: %q", left)
	}
}
