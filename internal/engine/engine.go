package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
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
	rerouted      turn            // what default routes lead to is looked at
	readdressed   turn            // what links are known by is looked at
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
	// astray are prefixes that another link than the network's parent has, by which.
	astray map[netip.Prefix]string
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

// inUse are the prefixes that another pool must not overlap.
func (e *Engine) inUse() []netip.Prefix {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.prefixesInUse()
}

func (e *Engine) prefixesInUse() []netip.Prefix {
	used := make([]netip.Prefix, 0, len(e.pools)+2*len(e.networks))
	e.eachInUse(func(p netip.Prefix) { used = append(used, p) })
	slices.SortFunc(used, netip.Prefix.Compare)
	return slices.Compact(used)
}

// eachInUse calls take with the prefixes in use, with some of them twice.
func (e *Engine) eachInUse(take func(netip.Prefix)) {
	for _, p := range e.pools {
		take(p.Prefix)
	}
	for _, n := range e.networks {
		for _, subnets := range [][]spec.Subnet{n.IPv6, n.IPv4} {
			for i := range subnets {
				s := &subnets[i]
				take(s.Prefix)
				if s.Outside.IsValid() {
					take(s.Outside)
				}
				for _, p := range lentPrefixes(s) {
					take(p)
				}
				if s.Lent != nil && s.Lent.ULA.IsValid() {
					take(s.Lent.ULA)
				}
			}
		}
	}
}
