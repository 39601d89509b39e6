package engine_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/v6net/v6net/internal/engine"
	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// world is all that outlives an Engine: the kernel, the journal's file and the
// network around the host. A crash is an Engine thrown away; the next one meets
// the same world.
type world struct {
	mu       sync.Mutex
	calls    []string // every fallible call since arm
	fault    fault
	watch    func() // sees the world after every call
	broken   string // calls that begin so fail until it is empty
	counting func() // while the firewall's counters are read

	journal     map[string]string // "kind key" → JSON
	globalID    [5]byte
	clock       engine.Clock // nil: the wall clock
	boot        string       // that the journal knows
	sysctlsBoot string       // in which it has forgotten the sysctls
	booted      string       // the one that runs

	links         map[string]fakeLink
	elsewhere     map[string]fakeLink // macvlan and ipvlan links in containers, by alias
	sysctls       map[string]string
	ruleset       *firewall.Ruleset // nil: none of ours
	unjudgedPorts bool              // by the firewall
	unnamed       string            // a bridge that no rule can be about
	backend       string            // that keeps the rules; empty: nftables
	untranslated  error             // why the firewall translates no prefixes
	unlogged      error             // why it tells of nothing that is denied
	groupTaken    error             // why nobody can listen to that
	hears         bool              // somebody does
	flooded       uint64            // by how much the counters are ahead
	rulesGone     error             // why it is not there
	obstacles     []spec.Obstacle
	onForget      func()      // while connections are forgotten
	zones         [2][]string // bridges that firewalld was told of, and those with names
	neighbours    map[netip.Addr]string

	defaultParent string   // link of the IPv6 default route; empty: none
	defaultAsked  int      // for how often defaultParent
	default4      string   // likewise
	uplinks       []string // bridges with a network card
	raLinks       []string
	othersForward map[bool]bool // by whether it is IPv6: a bridge that is not ours has an address
	onLink        map[string][]netip.Prefix
	routes        []netip.Prefix
	foreign       map[netip.Addr]bool // addresses of other hosts on the uplink
	crowded       netip.Prefix        // others have all its addresses
	listening     map[string]bool     // "tcp 80", or "tcp 127.0.0.1 80" on that address alone

	proxied    map[string]bool               // "link address"; the daemon's own: gone with it
	advertised map[string]spec.Advertisement // by link; likewise
	dialed     []string                      // links that were said to have changed, and to whom
	listened   []string                      // links whose routers are heard
	farewells  []string                      // links on which all was taken back, in order
	takenBack  map[string]spec.Advertisement // by link, what that was
	inherited  map[string]spec.Advertisement // by link, of an earlier daemon

	missing map[string]bool               // kinds of link that the kernel lacks, or the "guard"
	routers map[string][]netip.Addr       // next hops of default routes, by link
	heardOn map[string][]spec.HeardRouter // routers that advertise themselves, by link

	lentTo      map[spec.SourceOnLink][]spec.Delegation
	asked       []string // of sources: "pd eth0 64"
	kept        []spec.SourceOnLink
	onAsked     func() // what happens before who asks a source has its answer
	sources     []spec.DelegationStatus
	unreachable map[netip.Prefix]bool
	// sandboxes are the IPv6 addresses of containers' links, by alias, as "address",
	// "address former" or "address former until …".
	sandboxes  map[string][]string
	sandboxErr error

	probeTime time.Duration
	probing   func() // while a probe waits for answers
	probes    [][]netip.Addr
	announced []string // "address → ports"
}

// mode is what goes wrong at a call.
type mode string

const (
	failBefore  mode = "fails"
	failAfter   mode = "fails after its effect"
	callerGone  mode = "finds the caller gone"
	crashBefore mode = "never comes: killed"
	crashAfter  mode = "is the last one: killed"
)

// fault is one thing that goes wrong: the call of that number since arm.
type fault struct {
	at     int // from 1; 0: nothing goes wrong
	mode   mode
	cancel context.CancelFunc // for callerGone
}

// killed is what a crash panics with.
type killed struct{}

var errFault = errors.New("injected fault")

func (w *world) arm(f fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.fault = nil, f
}

func (w *world) disarm() { w.arm(fault{}) }

// calledInOrder reports whether calls that begin with these texts were made, in that order.
func (w *world) calledInOrder(texts ...string) bool {
	for _, call := range w.calls {
		if len(texts) > 0 && strings.HasPrefix(call, texts[0]) {
			texts = texts[1:]
		}
	}
	return len(texts) == 0
}

// call makes one fallible call, or what the fault makes of it. A nil ctx is the
// journal's, which has none; its effect and its answer are one.
func (w *world) call(ctx context.Context, what string, effect func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, what)
	var m mode
	if len(w.calls) == w.fault.at {
		m = w.fault.mode
	}
	if w.watch != nil {
		defer w.watch()
	}
	switch {
	case w.broken != "" && strings.HasPrefix(what, w.broken):
		return fmt.Errorf("%s: %w", what, errFault)
	case m == failBefore, m == failAfter && ctx == nil:
		return fmt.Errorf("%s: %w", what, errFault)
	case m == crashBefore:
		panic(killed{})
	case m == callerGone:
		w.fault.cancel()
	}
	if ctx != nil && ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	err := effect()
	switch {
	case m == crashAfter:
		panic(killed{})
	case m == failAfter && err == nil:
		return fmt.Errorf("%s: %w", what, errFault)
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// newWorld is a server with a global /64 on its uplink eth0, got by a router
// advertisement, and a second link eth1.
func newWorld() *world {
	w := &world{
		journal:   map[string]string{},
		globalID:  [5]byte{0x12, 0x34, 0x56, 0x78, 0x9a},
		booted:    "first",
		links:     map[string]fakeLink{},
		elsewhere: map[string]fakeLink{},
		sysctls: map[string]string{
			forwarding4: "0", forwarding6: "0",
			// As a hardened host has them, with one link that was made a router's.
			"net/ipv6/conf/default/forwarding": "0", "net/ipv6/conf/lan/forwarding": "1",
			"net/ipv4/conf/default/forwarding": "0", "net/ipv4/conf/lan/forwarding": "1",
			"net/ipv4/conf/all/accept_redirects": "0",
		},
		neighbours: map[netip.Addr]string{},

		defaultParent: "eth0",
		raLinks:       []string{"eth0"},
		onLink:        map[string][]netip.Prefix{"eth0": {pfx("2001:db8:1::/64")}, "eth1": {pfx("2001:db8:2::/64")}},
		routes:        []netip.Prefix{pfx("2001:db8:1::/64"), pfx("2001:db8:1::5/128"), pfx("2001:db8:2::/64"), pfx("192.0.2.0/24")},
		foreign:       map[netip.Addr]bool{},
		listening:     map[string]bool{},
		proxied:       map[string]bool{},
		advertised:    map[string]spec.Advertisement{},
		takenBack:     map[string]spec.Advertisement{},
		inherited:     map[string]spec.Advertisement{},
	}
	w.lentTo, w.unreachable, w.sandboxes = map[spec.SourceOnLink][]spec.Delegation{}, map[netip.Prefix]bool{}, map[string][]string{}
	w.missing = map[string]bool{}
	w.routers = map[string][]netip.Addr{"eth0": {ip("fe80::99"), ip("192.0.2.1")}}
	w.addLink("eth0", fakeLink{Kind: "device", MTU: 1500, Up: true})
	w.addLink("eth1", fakeLink{Kind: "device", MTU: 1400, Up: true})
	return w
}

// rename gives a link another name, and with it all that goes with it.
func (w *world) rename(from, to string) {
	w.links[to], w.onLink[to] = w.links[from], w.onLink[from]
	delete(w.links, from)
	delete(w.onLink, from)
	for key, value := range w.sysctls {
		if next := strings.Replace(key, "/"+from+"/", "/"+to+"/", 1); next != key {
			w.sysctls[next] = value
			delete(w.sysctls, key)
		}
	}
	rename := func(link string) string {
		if link == from {
			return to
		}
		return link
	}
	w.defaultParent = rename(w.defaultParent)
	for i, link := range w.raLinks {
		w.raLinks[i] = rename(link)
	}
}

// reboot is the machine's. What the kernel had is as newWorld has it; disks and neighbours stay.
func (w *world) reboot(boot string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fresh := newWorld()
	clear(w.elsewhere)
	w.booted, w.links, w.sysctls, w.ruleset, w.neighbours = boot, fresh.links, fresh.sysctls, nil, fresh.neighbours
	w.defaultParent, w.raLinks = fresh.defaultParent, fresh.raLinks
	clear(w.advertised)
	clear(w.unreachable)
	clear(w.sandboxes)
}

// clone is a copy in which another daemon may do as it likes.
func (w *world) clone() *world {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &world{
		journal: maps.Clone(w.journal), globalID: w.globalID,
		links: maps.Clone(w.links), elsewhere: maps.Clone(w.elsewhere), sysctls: maps.Clone(w.sysctls), ruleset: w.ruleset, neighbours: maps.Clone(w.neighbours),
		boot: w.boot, sysctlsBoot: w.sysctlsBoot, booted: w.booted, othersForward: w.othersForward,
		defaultParent: w.defaultParent, default4: w.default4, uplinks: w.uplinks, raLinks: slices.Clone(w.raLinks), onLink: w.onLink, routes: w.routes,
		lentTo: w.lentTo, unreachable: maps.Clone(w.unreachable), sandboxes: maps.Clone(w.sandboxes), sandboxErr: w.sandboxErr,
		clock:   w.clock,
		missing: w.missing, routers: w.routers, heardOn: w.heardOn,
		foreign: w.foreign, listening: w.listening, proxied: map[string]bool{}, advertised: map[string]spec.Advertisement{}, takenBack: map[string]spec.Advertisement{}, inherited: map[string]spec.Advertisement{},
	}
}

const (
	forwarding6 = "net/ipv6/conf/all/forwarding"
	forwarding4 = "net/ipv4/ip_forward"
	acceptRA0   = "net/ipv6/conf/eth0/accept_ra"
	acceptRA1   = "net/ipv6/conf/eth1/accept_ra"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }

// snapshot is the state that an operation may leave something behind in.
type snapshot struct {
	Journal    map[string]string
	Links      map[string]fakeLink
	Elsewhere  map[string]fakeLink
	Sysctls    map[string]string
	Ruleset    string
	Proxied    map[string]bool
	Advertised map[string]string // by link, as JSON

	Unreachable map[netip.Prefix]bool
	Sandboxes   map[string][]string
}

func (w *world) snapshot() snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := snapshot{Journal: maps.Clone(w.journal), Links: maps.Clone(w.links), Elsewhere: maps.Clone(w.elsewhere), Sysctls: maps.Clone(w.sysctls), Proxied: maps.Clone(w.proxied), Advertised: map[string]string{},
		Unreachable: maps.Clone(w.unreachable), Sandboxes: maps.Clone(w.sandboxes)}
	maps.DeleteFunc(s.Sysctls, func(key, _ string) bool { return strings.HasSuffix(key, "/addr_gen_mode") }) // means nothing on the host (hereMark)
	for link, a := range w.advertised {
		text, err := json.Marshal(a)
		if err != nil {
			panic(err)
		}
		s.Advertised[link] = string(text)
	}
	if w.ruleset != nil {
		s.Ruleset = w.ruleset.String()
	}
	return s
}

// noContext is the journal's: its calls have none.
var noContext context.Context

// fakeJournal keeps what internal/store keeps, and as it does: through JSON.
type fakeJournal struct{ *world }

func journalKey(kind, key string) string { return kind + " " + key }

func (j fakeJournal) put(kind, key string, record any) error {
	return j.call(noContext, "journal: put "+journalKey(kind, key), func() error {
		text, err := json.Marshal(record)
		j.journal[journalKey(kind, key)] = string(text)
		return err
	})
}

func (j fakeJournal) remove(kind, key string) error {
	return j.call(noContext, "journal: delete "+journalKey(kind, key), func() error {
		delete(j.journal, journalKey(kind, key))
		return nil
	})
}

func (j fakeJournal) Load() (spec.State, error) {
	s := spec.State{Leases: map[string][]netip.Addr{}, Sysctls: map[string]string{}}
	err := j.call(noContext, "journal: load", func() error {
		var errs []error
		for _, key := range slices.Sorted(maps.Keys(j.journal)) {
			kind, name, _ := strings.Cut(key, " ")
			text := []byte(j.journal[key])
			switch kind {
			case "network":
				errs = append(errs, appendJSON(&s.Networks, text))
			case "endpoint":
				errs = append(errs, appendJSON(&s.Endpoints, text))
			case "pool":
				errs = append(errs, appendJSON(&s.Pools, text))
			case "lease":
				pool, addr, _ := strings.Cut(name, " ")
				s.Leases[pool] = append(s.Leases[pool], ip(addr))
			case "advertised":
				errs = append(errs, appendJSON(&s.Advertised, text))
			case "sysctl":
				var original string
				errs = append(errs, json.Unmarshal(text, &original))
				s.Sysctls[name] = original
			}
		}
		return errors.Join(errs...)
	})
	return s, err
}

func appendJSON[T any](to *[]T, text []byte) error {
	var record T
	err := json.Unmarshal(text, &record)
	*to = append(*to, record)
	return err
}

func (j fakeJournal) GlobalID(func() ([5]byte, error)) ([5]byte, error) { return j.globalID, nil }

// Boot is not counted: it is before anything can be taken back.
func (j fakeJournal) Boot(id string) (other bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.boot == "" {
		j.boot = id
	}
	if other = j.boot != id; other && j.sysctlsBoot != id {
		maps.DeleteFunc(j.world.journal, func(key, _ string) bool { return strings.HasPrefix(key, "sysctl ") })
		j.sysctlsBoot = id
	}
	return other, nil
}

func (j fakeJournal) Booted(id string) error {
	return j.call(noContext, "journal: booted", func() error { j.boot = id; return nil })
}

func (j fakeJournal) PutFollowing(networks []spec.Network, pools []spec.Pool, sysctls map[string]string) error {
	return j.call(noContext, "journal: put following", func() error {
		records := map[string]any{}
		for _, n := range networks {
			records[journalKey("network", n.ID)] = n
		}
		for _, p := range pools {
			records[journalKey("pool", p.ID)] = p
		}
		if sysctls != nil {
			maps.DeleteFunc(j.journal, func(key, _ string) bool { return strings.HasPrefix(key, "sysctl ") })
		}
		for key, original := range sysctls {
			records[journalKey("sysctl", key)] = original
		}
		return j.write(records)
	})
}

func (j fakeJournal) PutNetwork(n spec.Network) error   { return j.put("network", n.ID, n) }
func (j fakeJournal) DeleteNetwork(id string) error     { return j.remove("network", id) }
func (j fakeJournal) PutEndpoint(e spec.Endpoint) error { return j.put("endpoint", e.ID, e) }
func (j fakeJournal) PutAll(networks []spec.Network, pools []spec.Pool, endpoints []spec.Endpoint) error {
	return j.call(noContext, "journal: put all", func() error {
		records := map[string]any{}
		for _, n := range networks {
			records[journalKey("network", n.ID)] = n
		}
		for _, p := range pools {
			records[journalKey("pool", p.ID)] = p
		}
		for _, e := range endpoints {
			records[journalKey("endpoint", e.ID)] = e
		}
		return j.write(records)
	})
}

// write writes records by their keys.
func (j fakeJournal) write(records map[string]any) error {
	for key, record := range records {
		text, err := json.Marshal(record)
		if err != nil {
			return err
		}
		j.journal[key] = string(text)
	}
	return nil
}
func (j fakeJournal) DeleteEndpoint(id string) error { return j.remove("endpoint", id) }
func (j fakeJournal) PutPool(p spec.Pool) error      { return j.put("pool", p.ID, p) }
func (j fakeJournal) DeletePool(id string) error {
	return j.call(noContext, "journal: delete "+journalKey("pool", id), func() error {
		maps.DeleteFunc(j.journal, func(key, _ string) bool {
			return key == journalKey("pool", id) || strings.HasPrefix(key, journalKey("lease", id)+" ")
		})
		return nil
	})
}

func (j fakeJournal) PutLease(pool string, addr netip.Addr) error {
	return j.put("lease", pool+" "+addr.String(), nil)
}

func (j fakeJournal) DeleteLease(pool string, addr netip.Addr) error {
	return j.remove("lease", pool+" "+addr.String())
}
func (j fakeJournal) PutSysctl(key, original string) error { return j.put("sysctl", key, original) }
func (j fakeJournal) PutAdvertised(all ...spec.Advertisement) error {
	var links []string
	for _, a := range all {
		links = append(links, a.Link)
	}
	return j.call(noContext, fmt.Sprintf("journal: put advertised %q", links), func() error {
		for _, a := range all {
			text, err := json.Marshal(a)
			if err != nil {
				return err
			}
			j.journal[journalKey("advertised", a.Link)] = string(text)
		}
		return nil
	})
}
func (j fakeJournal) DeleteAdvertised(link string) error { return j.remove("advertised", link) }
func (j fakeJournal) DeleteSysctl(key string) error      { return j.remove("sysctl", key) }

// fakeLink is a link of the host. A veth whose peer the container runtime has
// moved has Peer empty.
type fakeLink struct {
	Kind     string // device, bridge or veth
	Alias    string
	MTU      int
	MAC      string
	Addrs    string // joined: links are compared
	Former   string // of Addrs
	Master   string
	Isolated bool
	Peer     string
	Up       bool

	Parent  string // of a vlan, macvlan or ipvlan
	Mode    string // of the latter two
	Routes  string // joined
	Guarded bool   // takes no advertisements; a port: takes none from its container
	Judged  bool   // of a port
}

var errForeign = errors.New("the link exists and is not ours")

// addLink makes a link with the kernel's defaults for its sysctls.
func (w *world) addLink(name string, l fakeLink) {
	w.links[name] = l
	for key, value := range w.defaults(name) {
		w.sysctls[key] = value
	}
}

func (w *world) defaults(link string) map[string]string {
	return map[string]string{
		"net/ipv6/conf/" + link + "/accept_ra":      "1",
		"net/ipv6/conf/" + link + "/accept_dad":     "1",
		"net/ipv6/conf/" + link + "/addr_gen_mode":  "0",
		"net/ipv6/conf/" + link + "/disable_ipv6":   "0",
		"net/ipv6/conf/" + link + "/forwarding":     w.sysctls["net/ipv6/conf/default/forwarding"],
		"net/ipv4/conf/" + link + "/route_localnet": "0",
		"net/ipv4/conf/" + link + "/arp_ignore":     "0",
		"net/ipv4/conf/" + link + "/arp_announce":   "0",
	}
}

// dropLink is what the kernel does when a link goes.
func (w *world) dropLink(name string) {
	l := w.links[name]
	delete(w.links, name)
	for key := range w.defaults(name) {
		delete(w.sysctls, key)
	}
	if l.Peer != "" {
		if peer, ok := w.links[l.Peer]; ok && peer.Peer == name {
			w.dropLink(l.Peer)
		}
	}
	for child, c := range w.links {
		if c.Parent == name {
			w.dropLink(child)
		}
	}
	maps.DeleteFunc(w.elsewhere, func(_ string, c fakeLink) bool { return c.Parent == name })
	if l.Kind != "bridge" {
		return
	}
	for port, p := range w.links {
		if p.Master == name {
			p.Master = ""
			w.links[port] = p
		}
	}
}

// moveIn is the container runtime's part of Join: the peer leaves the host's namespace.
func (w *world) moveIn(endpointID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if child, ok := w.links[spec.SandboxName(endpointID)]; ok && child.Parent != "" {
		w.elsewhere[child.Alias] = child
		w.dropLink(spec.SandboxName(endpointID))
		return
	}
	host := w.links[spec.VethName(endpointID)]
	host.Peer = ""
	w.links[spec.VethName(endpointID)] = host
	peer := w.links[spec.SandboxName(endpointID)]
	peer.Peer = "" // so that the host's end stays
	w.links[spec.SandboxName(endpointID)] = peer
	w.dropLink(spec.SandboxName(endpointID))
}

// moveOut is its part of Leave: the peer comes back under its first name.
func (w *world) moveOut(endpointID string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if child, ok := w.elsewhere[spec.EndpointAlias(endpointID)]; ok {
		delete(w.elsewhere, child.Alias)
		w.addLink(spec.SandboxName(endpointID), child)
		return
	}
	host, ok := w.links[spec.VethName(endpointID)]
	if !ok || host.Peer != "" {
		return
	}
	host.Peer = spec.SandboxName(endpointID)
	w.links[spec.VethName(endpointID)] = host
	w.addLink(host.Peer, fakeLink{Kind: "veth", Alias: host.Alias, MTU: host.MTU, Peer: spec.VethName(endpointID)})
}

// remove is somebody's `ip link del`, or the end of a sandbox.
func (w *world) remove(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropLink(name)
}

// fakeLinks is internal/kernel/link on the fake kernel.
type fakeLinks struct{ *world }

// owned answers a link of that name and whether it is there.
func (k fakeLinks) owned(name, alias, kind string) (fakeLink, bool, error) {
	l, ok := k.links[name]
	if ok && (l.Alias != alias || l.Kind != kind) {
		return l, true, fmt.Errorf("alias %q: %w", l.Alias, errForeign)
	}
	return l, ok, nil
}

func (k fakeLinks) EnsureBridge(ctx context.Context, want spec.Bridge) error {
	return k.call(ctx, "link: bridge "+want.Name, func() error {
		l, ok, err := k.owned(want.Name, want.Alias, "bridge")
		if err != nil {
			return err
		}
		if !ok {
			k.addLink(want.Name, fakeLink{Kind: "bridge", Alias: want.Alias, MTU: 1500})
			l = k.links[want.Name]
		}
		l.MTU, l.Up = cmp.Or(want.MTU, l.MTU), true
		l.Addrs, l.Former = fmt.Sprint(slices.Concat(want.Addresses, want.Former)), ""
		if len(want.Former) > 0 {
			l.Former = fmt.Sprint(want.Former)
		}
		k.links[want.Name] = l
		return nil
	})
}

func (k fakeLinks) EnsureVeth(ctx context.Context, want spec.Veth) error {
	return k.call(ctx, "link: veth "+want.Name, func() error {
		if _, ok := k.links[want.Bridge]; !ok {
			return fmt.Errorf("bridge %s: %w", want.Bridge, fs.ErrNotExist)
		}
		l, ok, err := k.owned(want.Name, want.Alias, "veth")
		if err != nil {
			return err
		}
		if !ok {
			if _, taken := k.links[want.Peer]; taken {
				return fmt.Errorf("peer %s: %w", want.Peer, fs.ErrExist)
			}
			k.addLink(want.Name, fakeLink{Kind: "veth", Alias: want.Alias, MTU: 1500, Peer: want.Peer})
			k.addLink(want.Peer, fakeLink{Kind: "veth", Alias: want.Alias, MTU: 1500, Peer: want.Name})
			l = k.links[want.Name]
		}
		l.MTU, l.Up, l.Master, l.Isolated = cmp.Or(want.MTU, l.MTU), true, want.Bridge, want.Isolated
		l.Guarded, l.Judged = want.Guarded, want.Judged
		k.links[want.Name] = l
		if peer, here := k.links[l.Peer]; here {
			peer.MTU, peer.MAC = cmp.Or(want.MTU, peer.MTU), want.MAC
			k.links[l.Peer] = peer
		}
		return nil
	})
}

var errBusy = errors.New("the parent is taken")

func (k fakeLinks) EnsureChild(ctx context.Context, want spec.Child) error {
	return k.call(ctx, "link: child "+want.Name, func() error {
		parent, ok := k.links[want.Parent]
		if !ok {
			return fmt.Errorf("parent %s: %w", want.Parent, fs.ErrNotExist)
		}
		if k.missing[string(want.Mode)] {
			return fmt.Errorf("%s: modprobe %s", want.Mode, want.Mode)
		}
		if parent.Master != "" {
			return errBusy
		}
		l, ok, err := k.owned(want.Name, want.Alias, string(want.Mode))
		if err != nil {
			return err
		}
		if !ok {
			k.addLink(want.Name, fakeLink{Kind: string(want.Mode), Alias: want.Alias, Parent: want.Parent, MTU: parent.MTU,
				Mode: string(want.MacvlanMode) + string(want.IPvlanMode) + string(want.IPvlanFlag)})
			l = k.links[want.Name]
		}
		l.MTU, l.MAC, l.Up = cmp.Or(want.MTU, l.MTU), cmp.Or(want.MAC, l.MAC), l.Up || want.Up
		if want.Up {
			l.Addrs, l.Routes = fmt.Sprint(want.Addresses), fmt.Sprint(want.Routes)
		}
		k.links[want.Name] = l
		return nil
	})
}

// CheckChild knows foreign links by their lack of a mark, here alone.
func (k fakeLinks) CheckChild(ctx context.Context, want spec.Child) error {
	return k.call(ctx, "link: check "+want.Name, func() error {
		for name, l := range k.links {
			if l.Parent == want.Parent && l.Kind == "ipvlan" && want.Mode == spec.ModeIPvlan && l.Mode != string(want.IPvlanMode)+string(want.IPvlanFlag) {
				return fmt.Errorf("parent %s has %s", want.Parent, name)
			}
		}
		return nil
	})
}

func (k fakeLinks) EnsureVLAN(ctx context.Context, name string, raise bool) (ours bool, err error) {
	err = k.call(ctx, "link: VLAN "+name, func() error {
		l, ok := k.links[name]
		if ok && l.Alias != spec.VLANAlias(name) {
			return nil
		}
		on, _, _ := spec.ParseVLAN(name)
		parent, there := k.links[on]
		if !there {
			return fs.ErrNotExist
		}
		if !ok {
			k.addLink(name, fakeLink{Kind: "vlan", Alias: spec.VLANAlias(name), Parent: on, MTU: parent.MTU, MAC: parent.MAC})
			l = k.links[name]
		}
		ours, l.MTU, l.Up = true, parent.MTU, l.Up || raise
		k.links[name] = l
		return nil
	})
	return ours, err
}

func (k fakeLinks) EnsurePair(ctx context.Context, networkID string, mtu int) error {
	one, other := spec.PairName(networkID), spec.PairPeerName(networkID)
	return k.call(ctx, "link: pair "+one, func() error {
		if _, ok, err := k.owned(one, spec.NetworkAlias(networkID), "veth"); err != nil || ok {
			return err
		}
		k.addLink(one, fakeLink{Kind: "veth", Alias: spec.NetworkAlias(networkID), MTU: mtu, Peer: other, Up: true})
		k.addLink(other, fakeLink{Kind: "veth", Alias: spec.NetworkAlias(networkID), MTU: mtu, Peer: one, Up: true})
		return nil
	})
}

func (k fakeLinks) BlockRA(ctx context.Context, name string) error {
	return k.call(ctx, "link: guard "+name, func() error {
		l, ok := k.links[name]
		if !ok {
			return fs.ErrNotExist
		}
		if k.missing["guard"] {
			return errors.New("no CAP_BPF")
		}
		l.Guarded = true
		k.links[name] = l
		return nil
	})
}

func (k fakeLinks) RemoveElsewhere(ctx context.Context, alias string) error {
	return k.call(ctx, "link: remove elsewhere "+alias, func() error {
		delete(k.elsewhere, alias)
		return nil
	})
}

func (k fakeLinks) Elsewhere(ctx context.Context) (owned []spec.OwnedLink, err error) {
	err = k.call(ctx, "link: list elsewhere", func() error {
		for alias := range k.elsewhere {
			owned = append(owned, spec.OwnedLink{Name: "eth0", Alias: alias})
		}
		return nil
	})
	return owned, err
}

func (k fakeLinks) Parent(ctx context.Context, name string) (p spec.Parent, err error) {
	err = k.call(ctx, "link: parent "+name, func() error {
		l, ok := k.links[name]
		if !ok {
			return fs.ErrNotExist
		}
		p = spec.Parent{MTU: l.MTU, MAC: cmp.Or(l.MAC, "02:00:00:00:00:e0"), Up: l.Up, Master: l.Master, Alias: l.Alias,
			Ethernet: l.Kind != "tun", Wireless: l.Kind == "wireless", Loopback: l.Kind == "loopback"}
		return nil
	})
	return p, err
}

func (k fakeLinks) Remove(ctx context.Context, name, alias string) error {
	return k.call(ctx, "link: remove "+name, func() error {
		if l, ok := k.links[name]; ok && l.Alias == alias {
			k.dropLink(name)
		}
		return nil
	})
}

func (k fakeLinks) Owned(ctx context.Context) (owned []spec.OwnedLink, err error) {
	err = k.call(ctx, "link: list", func() error {
		for name, l := range k.links {
			if strings.HasPrefix(l.Alias, spec.LinkAliasMark) {
				owned = append(owned, spec.OwnedLink{Name: name, Alias: l.Alias})
			}
		}
		return nil
	})
	return owned, err
}

func (k fakeLinks) MTU(ctx context.Context, link string) (mtu int, err error) {
	err = k.call(ctx, "link: MTU of "+link, func() error {
		l, ok := k.links[link]
		if !ok {
			return fs.ErrNotExist
		}
		mtu = l.MTU
		return nil
	})
	return mtu, err
}

func (k fakeLinks) ForgetNeighbour(ctx context.Context, link string, addr netip.Addr) error {
	return k.call(ctx, "link: neighbour "+addr.String(), func() error {
		if _, ok := k.links[link]; !ok {
			return fs.ErrNotExist
		}
		delete(k.neighbours, addr)
		return nil
	})
}

// fakeSysctls has the side effects of net/ipv6/addrconf.c and net/ipv4/devinet.c.
type fakeSysctls struct{ *world }

func (s fakeSysctls) Get(ctx context.Context, key string) (value string, err error) {
	err = s.call(ctx, "sysctl: get "+key, func() error {
		var ok bool
		if value, ok = s.sysctls[key]; !ok {
			return fs.ErrNotExist
		}
		return nil
	})
	return value, err
}

func (s fakeSysctls) Set(ctx context.Context, key, value string) error {
	return s.call(ctx, "sysctl: set "+key+"="+value, func() error {
		if _, ok := s.sysctls[key]; !ok {
			return fs.ErrNotExist
		}
		s.set(key, value)
		return nil
	})
}

func (s fakeSysctls) List(ctx context.Context, folder string) (names []string, err error) {
	err = s.call(ctx, "sysctl: list "+folder, func() error {
		for key := range s.sysctls {
			if name, ok := strings.CutPrefix(key, folder+"/"); ok {
				names = append(names, strings.Split(name, "/")[0])
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
		return nil
	})
	return names, err
}

// set is a write by whomever. Turning forwarding on takes the advertised default
// routes of every link that has not accept_ra=2, and so the way out.
func (w *world) set(key, value string) {
	w.sysctls[key] = value
	family, ok := map[string]string{forwarding4: "net/ipv4/conf/", forwarding6: "net/ipv6/conf/"}[key]
	if !ok {
		return
	}
	for other := range w.sysctls {
		if strings.HasPrefix(other, family) && strings.HasSuffix(other, "/forwarding") {
			w.sysctls[other] = value
		}
	}
	if key == forwarding4 {
		w.sysctls["net/ipv4/conf/all/accept_redirects"] = map[string]string{"0": "1", "1": "0"}[value]
		return
	}
	if value == "1" {
		w.raLinks = slices.DeleteFunc(w.raLinks, func(link string) bool {
			purged := w.sysctls["net/ipv6/conf/"+link+"/accept_ra"] == "1"
			if purged && w.defaultParent == link {
				w.defaultParent = ""
			}
			return purged
		})
	}
}

type fakeFirewall struct{ *world }

func (f fakeFirewall) Apply(ctx context.Context, r firewall.Ruleset) error {
	return f.call(ctx, "firewall: apply", func() error {
		f.ruleset = &r
		return nil
	})
}

func (f fakeFirewall) Update(ctx context.Context, changes []firewall.Change) error {
	return f.change(ctx, "firewall: update", changes)
}

func (f fakeFirewall) UpdateNetworks(ctx context.Context, changes []firewall.Change) error {
	return f.change(ctx, "firewall: update networks", changes)
}

func (f fakeFirewall) change(ctx context.Context, call string, changes []firewall.Change) error {
	return f.call(ctx, call, func() error {
		if f.ruleset == nil {
			return errors.New("no ruleset is applied")
		}
		r := f.ruleset.Clone()
		r.Change(changes)
		f.ruleset = &r
		return nil
	})
}

// Counters is not counted: nothing is made of it. Every element has counted once.
func (f fakeFirewall) Counters(context.Context) (firewall.Counters, error) {
	if f.counting != nil {
		f.counting()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	counted := firewall.Counters{}
	for _, set := range firewall.CountingSets() {
		counted[set] = map[string]uint64{}
		for _, e := range f.ruleset.Set(set).Elements {
			counted[set][e.Key] = 1 + f.flooded
		}
	}
	return counted, nil
}

func (f fakeFirewall) Remove(ctx context.Context) error {
	return f.call(ctx, "firewall: remove", func() error {
		f.ruleset = nil
		return nil
	})
}

func (f fakeFirewall) Backend() string { return cmp.Or(f.backend, "nftables") }

// CanLog is not counted: nothing is made of it.
func (f fakeFirewall) CanLog(context.Context) error { return f.unlogged }

type fakeDenials struct{ *world }

func (f fakeDenials) Listen(on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if on && f.groupTaken != nil {
		return f.groupTaken
	}
	f.hears = on
	return nil
}

func (f fakeFirewall) CanTranslate() error { return f.untranslated }

func (f fakeFirewall) CanName(bridge string) bool { return bridge != f.unnamed }

func (f fakeFirewall) JudgesPorts() bool { return !f.unjudgedPorts }

func (f fakeFirewall) Place(table, chain string, _ bool) (string, string) { return table, chain }

// fakeInspector is not counted: nothing is made of it.
type fakeInspector struct{ *world }

func (f fakeInspector) Missing(context.Context) error { return f.rulesGone }

func (f fakeInspector) Obstacles(context.Context) ([]spec.Obstacle, error) { return f.obstacles, nil }

type fakeZones struct{ *world }

func (f fakeZones) Keep(plain, names []string) { f.zones = [2][]string{plain, names} }

type fakeConntrack struct{ *world }

func (c fakeConntrack) Forget(ctx context.Context, addrs []netip.Addr) error {
	if c.onForget != nil {
		c.onForget()
	}
	return c.call(ctx, fmt.Sprintf("conntrack: forget %v", addrs), func() error { return nil })
}

func (c fakeConntrack) ForgetPools(ctx context.Context, pools []netip.Prefix) error {
	return c.call(ctx, fmt.Sprintf("conntrack: forget pools %v", pools), func() error { return nil })
}

func (c fakeConntrack) ForgetPorts(ctx context.Context, ports []firewall.Published) error {
	return c.call(ctx, fmt.Sprintf("conntrack: forget ports %v", ports), func() error { return nil })
}

type fakeHost struct{ *world }

var errNoDefault = errors.New("this host has no usable IPv6 default route")

// DefaultParent is not counted: that it fails is one of its answers.
func (h fakeHost) DefaultParent(context.Context) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.defaultAsked++
	if h.defaultParent == "" {
		return "", errNoDefault
	}
	return h.defaultParent, nil
}

func (h fakeHost) OnLink(ctx context.Context, link string) (prefixes []netip.Prefix, err error) {
	err = h.call(ctx, "host: prefixes on "+link, func() error {
		if _, ok := h.links[link]; !ok {
			return fs.ErrNotExist
		}
		prefixes = h.onLink[link]
		return nil
	})
	return prefixes, err
}

func (h fakeHost) Connected(ctx context.Context, part netip.Prefix) (connected map[string][]netip.Prefix, err error) {
	err = h.call(ctx, "host: connected", func() error {
		connected = map[string][]netip.Prefix{}
		for link, prefixes := range h.onLink {
			around := slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool { return p.Bits() >= part.Bits() || !p.Overlaps(part) })
			if _, ok := h.links[link]; ok && len(around) > 0 {
				connected[link] = around
			}
		}
		return nil
	})
	return connected, err
}

func (h fakeHost) Taken(ctx context.Context, where netip.Prefix) (taken []netip.Prefix, err error) {
	err = h.call(ctx, "host: routes", func() error {
		taken = slices.Clone(h.routes)
		for _, l := range h.links {
			for _, text := range strings.Fields(strings.Trim(l.Addrs, "[]")) {
				if p := pfx(text); !p.Addr().IsLinkLocalUnicast() {
					taken = append(taken, p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
				}
			}
		}
		taken = slices.DeleteFunc(taken, func(p netip.Prefix) bool { return !p.Overlaps(where) })
		return nil
	})
	return taken, err
}

func (h fakeHost) Probe(ctx context.Context, link string, addrs []netip.Addr) (taken []netip.Addr, err error) {
	time.Sleep(h.probeTime)
	if h.probing != nil {
		h.probing()
	}
	err = h.call(ctx, "host: probe on "+link, func() error {
		l, ok := h.links[link]
		if !ok {
			return fs.ErrNotExist
		}
		if !l.Up {
			return syscall.ENETDOWN
		}
		h.probes = append(h.probes, addrs)
		for _, a := range addrs {
			if h.foreign[a] || h.crowded.IsValid() && h.crowded.Contains(a) {
				taken = append(taken, a)
			}
		}
		return nil
	})
	return taken, err
}

func (h fakeHost) RALinks(ctx context.Context) (links []string, err error) {
	err = h.call(ctx, "host: links with advertised routes", func() error {
		links = slices.Clone(h.raLinks)
		return nil
	})
	return links, err
}

func (h fakeHost) RouterLinks(ctx context.Context) (links []string, err error) {
	err = h.call(ctx, "host: links on which a router may be", func() error {
		for name := range h.links {
			if h.mayHaveRouter(name) {
				links = append(links, name)
			}
		}
		return nil
	})
	return links, err
}

// mayHaveRouter is link.RouterLinks' judgement, to which a bridge of this world has no network card.
func (w *world) mayHaveRouter(link string) bool { return w.links[link].Kind == "device" }

// IsRouterLink and DefaultLinks are not counted: that they fail changes nothing.
func (h fakeHost) IsRouterLink(_ context.Context, link string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mayHaveRouter(link), nil
}

// Uplinks is not counted: nothing is made of it but what the rules are.
func (h fakeHost) Uplinks(context.Context) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.uplinks, nil
}

func (h fakeHost) DefaultLinks(context.Context) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	links := []string{h.defaultParent, h.default4}
	slices.Sort(links)
	return slices.DeleteFunc(slices.Compact(links), func(l string) bool { return l == "" }), nil
}

// Routers is not counted: without an answer containers get no default route.
func (h fakeHost) Routers(_ context.Context, link string) ([]netip.Addr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.routers[link], nil
}

func (h fakeHost) OthersForward(ctx context.Context, v6 bool) (others bool, err error) {
	err = h.call(ctx, "host: bridges of others", func() error {
		others = h.othersForward[v6]
		return nil
	})
	return others, err
}

func (h fakeHost) Announce(ctx context.Context, ports []string, addr netip.Addr, _ net.HardwareAddr) error {
	return h.call(ctx, "host: announce "+addr.String(), func() error {
		h.announced = append(h.announced, fmt.Sprintf("%s → %v", addr, ports))
		return nil
	})
}

// Addresses is not counted: nothing is made of it.
func (h fakeHost) Way(_ context.Context, a netip.Addr) (spec.Way, error) {
	if !a.IsValid() {
		return spec.Way{}, errors.New("the way to an invalid address: numerical result out of range")
	}
	return spec.Way{}, nil
}

func (h fakeHost) Addresses(context.Context) (all []netip.Addr, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.links {
		for _, text := range strings.Fields(strings.Trim(l.Addrs, "[]")) {
			all = append(all, pfx(text).Addr())
		}
	}
	return all, nil
}

func (h fakeHost) PortFree(protocol string, addr netip.Addr, port uint16) error {
	return h.call(context.Background(), fmt.Sprintf("host: port %d/%s", port, protocol), func() error {
		for key := range h.listening {
			p, on, _ := strings.Cut(key, " ")
			at, number, narrow := strings.Cut(on, " ")
			if !narrow {
				at, number = "", on
			}
			if p == protocol && number == fmt.Sprint(port) && (!narrow || addr.IsUnspecified() || at == addr.String()) {
				return errors.New("address already in use")
			}
		}
		return nil
	})
}

type fakeProxy struct{ *world }

func (p fakeProxy) Add(link string, addr netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proxied[link+" "+addr.String()] = true
}

func (p fakeProxy) Remove(link string, addr netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.proxied, link+" "+addr.String())
}

func (p fakeProxy) AddPrefix(link string, prefix netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proxied[link+" "+prefix.String()] = true
}

func (p fakeProxy) RemovePrefix(link string, prefix netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.proxied, link+" "+prefix.String())
}

func (p fakeProxy) LinkChanged(link string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialed = append(p.dialed, "proxy "+link)
}

func (p fakeProxy) Status() []spec.ProxyStatus {
	return []spec.ProxyStatus{{Parent: "eth0", Addresses: []netip.Addr{netip.IPv6Unspecified()}}}
}

func (p fakeProxy) Summary() []spec.ProxyStatus { return []spec.ProxyStatus{{Parent: "eth0"}} }

type fakeAdvertisers struct{ *world }

func (f fakeAdvertisers) Inherit(a spec.Advertisement) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inherited[a.Link] = a
}

func (f fakeAdvertisers) Advertise(a spec.Advertisement) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.advertised[a.Link] = a
}

func (f fakeAdvertisers) Withdraw(_ context.Context, link string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, told := f.advertised[link]; told {
		f.farewells = append(f.farewells, link)
		f.takenBack[link] = a
	}
	delete(f.advertised, link)
}

func (f fakeAdvertisers) Listen(links []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listened = links
}

func (f fakeAdvertisers) LinkChanged(link string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dialed = append(f.dialed, "advertiser "+link)
}

func (f fakeAdvertisers) Status() (s []spec.AdvertiserStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, link := range slices.Sorted(maps.Keys(f.advertised)) {
		s = append(s, spec.AdvertiserStatus{Advertisement: f.advertised[link]})
	}
	for _, link := range slices.Sorted(maps.Keys(f.heardOn)) {
		s = append(s, spec.AdvertiserStatus{Advertisement: spec.Advertisement{Link: link}, Routers: f.heardOn[link]})
	}
	return s
}
