package engine

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/v6net/v6net/internal/prefix"
	"github.com/v6net/v6net/internal/spec"
)

// Config is what an Engine works with.
type Config struct {
	Version     string
	BootID      string // changes with every boot of the machine
	Log         *slog.Logger
	Clock       Clock // nil: the wall clock
	Journal     Journal
	Links       Links
	Sysctls     Sysctls
	Firewall    Firewall
	Inspector   Inspector // nil: nobody looks
	Zones       Zones     // nil: nobody is told
	Denials     Denials   // nil: nothing is told of denied packets
	LogGroup    uint16    // by which rules tell; 0: firewall.DefaultLogGroup
	Conntrack   Conntrack
	Host        Host
	Proxy       Proxy
	Advertisers Advertisers
	Sources     Sources
	Routes      Routes
	Sandboxes   Sandboxes
	Registry    Registry    // nil: front ends say themselves what is gone
	Events      spec.Events // nil: nobody watches
}

// Engine is the one owner of desired state. It is safe for concurrent use.
type Engine struct {
	Config
	seed     uint64
	globalID [5]byte
	rebooted bool          // since the journal was last open
	refills  chan string   // pools whose probed addresses run low
	sourcing chan struct{} // which sources networks need may have changed
	renames  []rename      // of links, which Sources are about to be told of; guarded by mu
	probing  chan struct{} // there are parts to be probed
	wake     chan struct{} // there is something new for Run

	choosing sync.Mutex // one pool is chosen at a time: choosing may wait for DAD

	mu         sync.Mutex // guards all below, and is held while the kernel is changed
	networks   map[string]*network
	endpoints  map[string]*endpoint
	byLink     map[string]*endpoint     // by its link on the host
	byAddr     map[netip.Addr]*endpoint // by each of the endpoint's leases
	byNetwork  map[string]map[string]*endpoint
	bySandbox  map[string]map[string]*endpoint // those that are in one
	hostPorts  takenPorts                      // those that endpoints publish
	pools      map[string]*pool
	sysctls    map[string]string             // key → value before v6net set it
	advertised map[string]spec.Advertisement // by link, as its hosts were last told
	inherited  map[string]bool               // links that an earlier daemon has told, and this one not yet

	announcements []announcement // that wait to be sent
	chores        []chore        // the first due first
	healDue       time.Time      // when what failed is done again; zero: nothing has
	healWait      time.Duration
	hostErr       error // what of the host's settings failed

	parentUp      map[string]bool // whether the parents of macvlan and ipvlan networks are
	defaultLinks  []string        // of the default routes: traffic to them leaves the host
	uplinks       []string        // bridges with a network card: likewise
	uplinksUnsure bool            // a link has changed since
	ruled         bool            // the ruleset of all networks is in place, and nothing was left out
	guarded       bool            // it is in place, and closes at least each of them
	unapplied     error           // why it is not, if it could not be put there
	hearing       bool            // of denied packets
	unheard       error           // why not, where a network wants it
	looking       bool            // for links that went with the namespaces of containers

	lent        map[spec.SourceOnLink][]spec.Delegation // as their sources have said last
	silent      map[spec.SourceOnLink]silence           // sources that have lent nothing when they were asked
	down        map[string]bool                         // links that were, when they were last heard of
	lapseDue    time.Time                               // when the next lifetime ends
	unreachable map[netip.Prefix]bool                   // the routes of ours; nil: they are not known yet
	parts       map[netip.Prefix]*part                  // of links' own prefixes, to which networks may move
}

type network struct {
	spec.Network
	made       time.Time // by MakeNetwork; zero: before this start
	registered bool      // the front end has been seen to have it
	parent     string    // the one named, or the interface of the IPv6 default route; empty: neither
	mtu        int
	former     formerOwners
	held       int // the least MTU of running containers' links, where the bridge must not have more; 0: nothing holds it
	// proxied is the link on which all of its prefixes is answered for; empty: none.
	proxied         string
	proxiedPrefixes []netip.Prefix
	err             error // why it is degraded, its endpoints left aside
	unruled         error // what of it the firewall has had to leave out
	// partless is why subnets have no part of what their sources lend, by the subnet's prefix.
	partless map[netip.Prefix]error
	// teller is how its denied packets come into the log; nil: they do not.
	teller *teller
}

type endpoint struct {
	spec.Endpoint
	proxied   string       // the link on which solicitations for it are answered; empty: none
	answered  []netip.Addr // for which of its addresses
	announced bool         // neighbours have been told, since its link came up
	here      time.Time    // when it was joined, and may have begun to hear of others; zero: before this start
	idle      time.Time    // since when it is in no sandbox, if it is in none
	linkGone  bool         // the container's end vanished with its sandbox
	err       error        // why it is not as it should be
	// Of its container's addresses alone (readdress): why they are not those that it should
	// have, and whether only a restart of the container changes that (stale).
	unaddressed, stale error
	// unpublished is why ports that were asked for are not among those that it publishes.
	unpublished error
}

// New loads the journal. Replay must run before any other call.
func New(c Config) (*Engine, error) {
	e := &Engine{
		Config:     c,
		refills:    make(chan string, 64),
		wake:       make(chan struct{}, 1),
		sourcing:   make(chan struct{}, 1),
		lent:       map[spec.SourceOnLink][]spec.Delegation{},
		silent:     map[spec.SourceOnLink]silence{},
		down:       map[string]bool{},
		parts:      map[netip.Prefix]*part{},
		probing:    make(chan struct{}, 1),
		parentUp:   map[string]bool{},
		networks:   map[string]*network{},
		endpoints:  map[string]*endpoint{},
		byLink:     map[string]*endpoint{},
		byAddr:     map[netip.Addr]*endpoint{},
		byNetwork:  map[string]map[string]*endpoint{},
		bySandbox:  map[string]map[string]*endpoint{},
		hostPorts:  takenPorts{},
		pools:      map[string]*pool{},
		advertised: map[string]spec.Advertisement{},
		inherited:  map[string]bool{},
	}
	if c.Clock == nil {
		e.Clock = wallClock{}
	}
	if c.Events == nil {
		e.Events = spec.NoEvents{}
	}
	var err error
	if e.rebooted, err = c.Journal.Boot(c.BootID); err != nil {
		return nil, err
	}
	state, err := c.Journal.Load()
	if err != nil {
		return nil, err
	}
	if e.globalID, err = c.Journal.GlobalID(prefix.NewGlobalID); err != nil {
		return nil, err
	}
	// Of the ID's 40 random bits, the same for as long as the journal lives, so
	// that this host chooses the same prefixes again and others do not.
	e.seed = binary.BigEndian.Uint64(append([]byte{0, 0, 0}, e.globalID[:]...))
	e.sysctls = state.Sysctls
	for _, a := range state.Advertised {
		e.advertised[a.Link], e.inherited[a.Link] = a, true
		e.Advertisers.Inherit(a)
	}
	for _, n := range state.Networks {
		e.networks[n.ID] = &network{Network: n, former: formerOwners{before: time.Now()}}
	}
	for _, ep := range state.Endpoints {
		e.remember(&endpoint{Endpoint: ep})
	}
	for _, p := range state.Pools {
		if e.pools[p.ID], err = newPool(p, state.Leases[p.ID]); err != nil {
			return nil, fmt.Errorf("journal: pool %s: %w", p.ID, err)
		}
		e.pools[p.ID].inherited = true
	}
	return e, nil
}

// Run does the engine's own work in the background until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return e.runRefills(ctx) })
	tasks.Go(func() error { return e.runChores(ctx) })
	tasks.Go(func() error { return e.runSources(ctx) })
	tasks.Go(func() error { return e.runParts(ctx) })
	return tasks.Wait()
}

// runRefills probes addresses ahead of need. Each probe takes a second.
func (e *Engine) runRefills(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case id := <-e.refills:
			if err := e.refillPool(ctx, id); err != nil && ctx.Err() == nil {
				e.Log.Warn("probe addresses ahead", "pool", id, "err", err)
			}
		}
	}
}

// runChores does what is due, and announces what waits for it.
func (e *Engine) runChores(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
			e.sendAnnouncements(ctx)
			timer.Reset(0)
		case <-timer.C:
			timer.Reset(e.doChores(ctx, time.Now()))
		}
	}
}

// LinkChanged takes in that a link of the host changed: parents are dialled
// again, containers whose link came up are announced, and a bridge of ours that
// somebody removed is made again.
func (e *Engine) LinkChanged(ctx context.Context, name string, up, deleted bool) {
	e.Proxy.LinkChanged(name)
	e.Advertisers.LinkChanged(name)
	e.mu.Lock()
	defer e.mu.Unlock()
	if ep, ok := e.byLink[name]; ok {
		if n, ok := e.networks[ep.NetworkID]; ok {
			e.mode(n.Options).linkChanged(ctx, n, ep, up, deleted)
			if ep.linkGone {
				e.departed(ep)
			}
		}
		return
	}
	if spec.IsSandboxName(name) {
		return // a container's end, on its way there or gone: the host's end says what matters
	}
	e.linkCameUp(name, up, deleted)
	e.healSoon()
	e.parentChanged(ctx, name, up)
	if deleted {
		e.followNames(ctx)
		e.loseLinks(ctx, name)
	}
	mtu := sync.OnceValue(func() int { mtu, _ := e.parentMTU(ctx, name); return mtu })
	var changed []*network
	for _, n := range e.allNetworks() {
		switch {
		case n.Bridge() == name && deleted:
			e.Log.Warn("bridge was removed by somebody else; making it again", aboutNetwork(n.Network, "bridge", name)...)
			changed = append(changed, n)
		case deleted && name == spec.ShimName(n.ID) && e.needsShim(n):
			e.Log.Warn("the host's own link was removed by somebody else; making it again", aboutNetwork(n.Network, "link", name)...)
			changed = append(changed, n)
		case (n.parent == name || n.isBase(name)) && (deleted || n.err != nil || n.Options.MTU == 0 && n.mtu != mtu()):
			changed = append(changed, n)
		}
	}
	if len(changed) > 0 {
		e.reapply(ctx, changed...)
	} else if !strings.HasPrefix(name, spec.LinkPrefix) {
		e.uplinksMayDiffer(ctx)
	}
	if up {
		e.probeAgain(ctx, name)
		e.keepAcceptRA(ctx, name)
	}
}

// RoutesChanged takes in that the host's default routes changed: networks whose
// parent is another one now follow it.
func (e *Engine) RoutesChanged(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.healSoon()
	e.followNames(ctx)
	e.avoidAllOthers(ctx)
	var moved []*network
	for _, n := range e.allNetworks() {
		router, _ := e.routerWithin(ctx, n.Network, n.proxied)
		if e.findParent(ctx, n) != n.parent || n.proxied != "" && router.IsValid() {
			moved = append(moved, n)
		}
	}
	if len(moved) > 0 || !slices.Equal(e.findDefaultLinks(ctx), e.defaultLinks) {
		e.reapply(ctx, moved...)
	}
}

// findDefaultLinks are none where that cannot be found out: what is vouched for
// is then decided without them.
func (e *Engine) findDefaultLinks(ctx context.Context) []string {
	links, err := e.Host.DefaultLinks(ctx)
	if err != nil {
		e.Log.Warn("links of the default routes", "err", err)
	}
	return links
}

// findUplinks likewise: bridges by which packets leave this host are else taken for
// another engine's.
func (e *Engine) findUplinks(ctx context.Context) []string {
	bridges, err := e.Host.Uplinks(ctx)
	if err != nil {
		e.Log.Warn("bridges with a network card", "err", err)
	}
	return bridges
}

// uplinksMayDiffer has uplinks looked for in a moment, once for all links that change until
// then: it reads every link of the host.
func (e *Engine) uplinksMayDiffer(ctx context.Context) {
	if e.uplinksUnsure || !e.hasRouted() {
		return
	}
	e.uplinksUnsure = true
	e.later(uplinksWait, func() {
		e.uplinksUnsure = false
		if !slices.Equal(e.findUplinks(ctx), e.uplinks) {
			e.reapply(ctx)
		}
	})
}

// Resync makes the kernel match once more: events were lost.
func (e *Engine) Resync(ctx context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unreachable = nil // what is there of it is looked up
	clear(e.silent)     // sources whose link has come up meanwhile
	if _, err := e.matchLinks(ctx); err != nil {
		e.Log.Error("read the world again", "err", err)
	}
	e.reapply(ctx, e.allNetworks()...)
	e.followSources(ctx) // what is free now
	e.dialAgain()
	for _, ep := range e.endpoints {
		if ep.Joined && !ep.linkGone && !ep.announced { // its link's event may be among the lost
			e.announce(ctx, ep)
			ep.announced = true
		}
	}
}

// reapply brings networks and their endpoints back, and finishes what was to be
// deleted. One that fails is degraded and does not keep the others from it; it is
// tried again.
func (e *Engine) reapply(ctx context.Context, networks ...*network) {
	settled := e.settleAgain(networks)
	for _, n := range networks {
		before := e.networkError(n)
		if n.Phase != spec.PhaseReady {
			n.err = e.dropNetwork(ctx, n)
		} else {
			n.err = e.mode(n.Options).apply(ctx, n)
			for _, ep := range e.endpointsOf(n.ID) {
				ep.err = e.restoreEndpoint(ctx, n, ep)
			}
		}
		e.noteHealth(n, before)
	}
	before := e.hostErr
	e.hostErr = e.applyHost(ctx)
	e.logChange("host", before, e.hostErr)
	e.forgetNewlyTranslated(ctx, settled)
	var endpoints []*endpoint
	for _, n := range networks {
		endpoints = append(endpoints, e.endpointsOf(n.ID)...)
	}
	e.readdress(ctx, endpoints...)
	e.planHeal()
}

// logChange says that something is degraded, or well again, when that is news, and which.
func (e *Engine) logChange(what string, before, now error, about ...any) (news string) {
	switch {
	case now != nil && (before == nil || before.Error() != now.Error()):
		news = "degraded"
		e.Log.Error(what+" is degraded", append(about, "err", now)...)
	case now == nil && before != nil:
		news = "well again"
		e.Log.Info(what+" is well again", about...)
	}
	return news
}

// noteHealth is logChange of a network, for who watches as well.
func (e *Engine) noteHealth(n *network, before error) {
	now := e.networkError(n)
	news := e.logChange("network", before, now, aboutNetwork(n.Network)...)
	switch {
	case news == "":
	case now != nil:
		e.tellNetwork(news, n.Network, now.Error())
	default:
		e.tellNetwork(news, n.Network, "")
	}
}

// networkError is why a network is degraded, or nil.
func (e *Engine) networkError(n *network) error {
	errs := []error{n.err, n.unruled}
	for _, ep := range e.byNetwork[n.ID] {
		if err := errors.Join(ep.err, ep.unaddressed, ep.unpublished); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %s: %w", spec.ShortID(ep.ID), err))
		}
	}
	if len(errs) > 3 { // their order is a map's
		slices.SortFunc(errs[2:], func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	}
	return errors.Join(errs...)
}

func (e *Engine) allNetworks() []*network {
	networks := make([]*network, 0, len(e.networks))
	for _, id := range sortedIDs(e.networks) {
		networks = append(networks, e.networks[id])
	}
	return networks
}

// inUse are the prefixes that another pool must not overlap.
func (e *Engine) inUse() []netip.Prefix {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.prefixesInUse()
}

func (e *Engine) prefixesInUse() []netip.Prefix {
	var used []netip.Prefix
	for _, p := range e.pools {
		used = append(used, p.Prefix)
	}
	for _, n := range e.networks {
		for _, s := range n.Subnets() {
			if _, ours := e.pools[s.Prefix.String()]; !ours {
				used = append(used, s.Prefix)
			}
			if s.Outside.IsValid() {
				used = append(used, s.Outside)
			}
			used = append(used, lentPrefixes(s)...)
			if s.Lent != nil && s.Lent.ULA.IsValid() {
				used = append(used, s.Lent.ULA)
			}
		}
	}
	slices.SortFunc(used, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return used
}

func (e *Engine) network(id string) (*network, error) {
	n, ok := e.networks[id]
	if !ok {
		return nil, fmt.Errorf("network %s: %w", spec.ShortID(id), spec.ErrNotFound)
	}
	return n, nil
}

func (e *Engine) endpoint(networkID, id string) (*endpoint, error) {
	ep, ok := e.endpoints[id]
	if !ok || ep.NetworkID != networkID {
		return nil, fmt.Errorf("network %s: endpoint %s: %w", spec.ShortID(networkID), spec.ShortID(id), spec.ErrNotFound)
	}
	return ep, nil
}

// living is an endpoint that is not being deleted, which takes a while without Engine.mu.
func (e *Engine) living(networkID, id string) (*endpoint, error) {
	ep, err := e.endpoint(networkID, id)
	if err == nil && ep.Phase == spec.PhaseDeleting {
		return nil, fmt.Errorf("network %s: endpoint %s is being deleted: %w", spec.ShortID(networkID), spec.ShortID(id), spec.ErrNotFound)
	}
	return ep, err
}

// remember makes an endpoint known under its ID, link and addresses.
func (e *Engine) remember(ep *endpoint) {
	e.endpoints[ep.ID] = ep
	e.byLink[e.modeOf(ep.Endpoint).link(ep.ID)] = ep
	for _, l := range ep.Leases() {
		if l.IsValid() {
			e.byAddr[l.Addr()] = ep
		}
	}
	if e.byNetwork[ep.NetworkID] == nil {
		e.byNetwork[ep.NetworkID] = map[string]*endpoint{}
	}
	e.byNetwork[ep.NetworkID][ep.ID] = ep
	e.enter(ep, ep.Sandbox)
	e.takePorts(ep)
}

func (e *Engine) forget(ep *endpoint) {
	delete(e.endpoints, ep.ID)
	delete(e.byLink, e.modeOf(ep.Endpoint).link(ep.ID))
	for _, l := range ep.Leases() {
		if l.IsValid() {
			delete(e.byAddr, l.Addr())
		}
	}
	delete(e.byNetwork[ep.NetworkID], ep.ID)
	if len(e.byNetwork[ep.NetworkID]) == 0 {
		delete(e.byNetwork, ep.NetworkID)
	}
	e.enter(ep, "")
	e.dropPorts(ep)
}

// enter takes in which sandbox an endpoint is in; empty: none.
func (e *Engine) enter(ep *endpoint, sandbox string) {
	delete(e.bySandbox[ep.Sandbox], ep.ID)
	if len(e.bySandbox[ep.Sandbox]) == 0 {
		delete(e.bySandbox, ep.Sandbox)
	}
	ep.Sandbox = sandbox
	if sandbox == "" {
		return
	}
	if e.bySandbox[sandbox] == nil {
		e.bySandbox[sandbox] = map[string]*endpoint{}
	}
	e.bySandbox[sandbox][ep.ID] = ep
}

// endpointsOf are a network's endpoints in a stable order.
func (e *Engine) endpointsOf(networkID string) []*endpoint {
	mine := e.byNetwork[networkID]
	eps := make([]*endpoint, 0, len(mine))
	for _, id := range sortedIDs(mine) {
		eps = append(eps, mine[id])
	}
	return eps
}

func sortedIDs[T any](m map[string]T) []string {
	ids := make([]string, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
