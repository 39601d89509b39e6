package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"

	"github.com/v6net/v6net/internal/prefix"
	"github.com/v6net/v6net/internal/spec"
)

// defaultMTU is a bridge's where neither the user nor a parent says otherwise.
const defaultMTU = 1500

// CreateNetwork makes a network's bridge, addresses, firewall and host
// settings. The same network again is no error; another one under the same ID,
// on the same subnet or on a link that is not ours is.
func (e *Engine) CreateNetwork(ctx context.Context, n spec.Network) error {
	if err := n.Validate(); err != nil {
		return err
	}
	if err := e.classify(ctx, &n); err != nil {
		return fmt.Errorf("network %s: %w", spec.ShortID(n.ID), err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n.Phase = spec.PhaseReady
	if old, ok := e.networks[n.ID]; ok {
		if old.Phase == spec.PhaseReady && reflect.DeepEqual(old.Network, n) {
			return nil
		}
		return fmt.Errorf("network %s exists already with other options or subnets", spec.ShortID(n.ID))
	}
	for _, s := range n.Subnets() {
		if other := e.networkUsing(s.Prefix); other != nil {
			return fmt.Errorf("network %s: subnet %s overlaps network %s", spec.ShortID(n.ID), s.Prefix, spec.ShortID(other.ID))
		}
	}
	if err := e.addNetwork(ctx, n); err != nil {
		if left, ok := e.networks[n.ID]; ok { // it could not be taken back
			left.err = err
			e.planHeal()
		}
		return fmt.Errorf("network %s: %w", spec.ShortID(n.ID), err)
	}
	e.Log.Info("network created", "network", n.ID, "bridge", n.Bridge())
	for _, s := range n.IPv6 {
		if _, ours := e.pools[s.Prefix.String()]; ours && s.OnLink {
			e.wantRefill(s.Prefix.String())
		}
	}
	return nil
}

// addNetwork journals the intent, changes the kernel, and journals the outcome.
func (e *Engine) addNetwork(ctx context.Context, n spec.Network) error {
	entry := &network{Network: n}
	entry.Phase = spec.PhaseCreating
	return run(ctx, []step{
		{
			what: "journal",
			do: func(context.Context) error {
				if err := e.Journal.PutNetwork(entry.Network); err != nil {
					return err
				}
				e.networks[n.ID] = entry
				return nil
			},
			undo: func(context.Context) error {
				delete(e.networks, n.ID)
				return e.Journal.DeleteNetwork(n.ID)
			},
		},
		{
			what: "apply",
			do:   func(ctx context.Context) error { return e.applyNetwork(ctx, entry) },
			undo: func(ctx context.Context) error { return e.unapplyNetwork(ctx, entry) },
		},
		{
			what: "journal",
			do: func(context.Context) error {
				entry.Phase = spec.PhaseReady
				return e.Journal.PutNetwork(entry.Network)
			},
		},
	})
}

// DeleteNetwork removes a network and whatever endpoints it still has. The
// error matches spec.ErrNotFound for an unknown one.
func (e *Engine) DeleteNetwork(ctx context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.network(id)
	if err != nil {
		return err
	}
	if n.err = e.dropNetwork(ctx, n); n.err != nil {
		e.planHeal()
		return fmt.Errorf("network %s: %w", spec.ShortID(id), n.err)
	}
	e.Log.Info("network deleted", "network", id)
	return nil
}

// dropNetwork takes a network away with its pools, which nobody releases once it
// is gone; it can be repeated until it succeeds. The pools of one whose creation
// is taken back are still the front end's, if it lives.
func (e *Engine) dropNetwork(ctx context.Context, n *network) error {
	takenBack := n.Phase == spec.PhaseCreating
	if !takenBack {
		n.Phase = spec.PhaseDeleting
		if err := e.Journal.PutNetwork(n.Network); err != nil {
			return err
		}
	}
	for _, ep := range e.endpointsOf(n.ID) {
		if err := e.dropEndpoint(ctx, ep); err != nil {
			return err
		}
	}
	if err := e.unapplyNetwork(ctx, n); err != nil {
		return err
	}
	for _, s := range n.Subnets() {
		p, ours := e.pools[s.Prefix.String()]
		switch {
		case !ours:
		case takenBack:
			e.later(settleTime, func() { e.dropUnused(p) })
		default:
			if err := e.dropPool(p.ID); err != nil {
				return err
			}
		}
	}
	if err := e.Journal.DeleteNetwork(n.ID); err != nil {
		return err
	}
	delete(e.networks, n.ID)
	return nil
}

// applyNetwork makes the kernel match one network, and the host match them all. It is idempotent.
func (e *Engine) applyNetwork(ctx context.Context, n *network) error {
	if err := e.applyBridge(ctx, n); err != nil {
		return err
	}
	return e.applyHost(ctx)
}

// applyHost sets what all present networks need of the host: firewall, sysctls
// and advertisements. The firewall comes first: a host that forwards before its
// rules are there lets everybody in.
func (e *Engine) applyHost(ctx context.Context) error {
	e.defaultLinks = e.findDefaultLinks(ctx)
	return errors.Join(
		e.applyFirewall(ctx),
		e.applySysctls(ctx),
		e.applyAdvertisements(ctx),
	)
}

func (e *Engine) applyBridge(ctx context.Context, n *network) error {
	n.parent = e.findParent(ctx, n)
	mtu, absent := e.findMTU(ctx, n)
	n.mtu = mtu
	if err := e.Links.EnsureBridge(ctx, n.bridge()); err != nil {
		return err
	}
	for _, s := range n.bridgeSettings() {
		if err := e.Sysctls.Set(ctx, s.key, s.value); err != nil {
			return err
		}
	}
	return absent
}

// unapplyNetwork is the way back: the network no longer counts, whatever its phase.
func (e *Engine) unapplyNetwork(ctx context.Context, n *network) error {
	delete(e.networks, n.ID)
	defer func() { e.networks[n.ID] = n }() // until the journal has forgotten it too
	return errors.Join(
		e.applyAdvertisements(ctx), // while the bridge is there for the farewell
		e.Links.Remove(ctx, n.Bridge(), spec.NetworkAlias(n.ID)),
		e.applySysctls(ctx),
		e.applyFirewall(ctx),
	)
}

// bridge is the wanted state of the network's bridge.
func (n *network) bridge() spec.Bridge {
	b := spec.Bridge{
		Name:      n.Bridge(),
		Alias:     spec.NetworkAlias(n.ID),
		MTU:       n.mtu,
		Addresses: []netip.Prefix{spec.LinkLocalGateway(n.ID)},
	}
	for _, s := range n.Subnets() {
		if s.Gateway.IsValid() && !(n.Options.Inhibit4 && s.Gateway.Is4()) {
			b.Addresses = append(b.Addresses, netip.PrefixFrom(s.Gateway, s.Prefix.Bits()))
		}
	}
	return b
}

// bridgeSettings go with the bridge, so nothing puts them back. It is a
// router's interface: it takes no advertisements from containers, and its own
// addresses need no DAD. route_localnet lets the host's 127.0.0.1 be translated
// to a container; the ruleset keeps containers from using it.
func (n *network) bridgeSettings() []setting {
	settings := []setting{
		{"net/ipv6/conf/" + n.Bridge() + "/accept_ra", "0"},
		{"net/ipv6/conf/" + n.Bridge() + "/accept_dad", "0"},
	}
	if len(n.IPv4) > 0 {
		settings = append(settings, setting{"net/ipv4/conf/" + n.Bridge() + "/route_localnet", "1"})
	}
	return settings
}

// namedParent is the one that the network is bound to, empty for whatever the default route takes.
func (n *network) namedParent() string {
	for _, s := range n.IPv6 {
		if s.OnLink {
			return s.Parent
		}
	}
	return n.Options.Parent
}

// proxies reports whether solicitations for an address on the parent must be
// answered by us (RFC 4861 §7.2.8).
func (n *network) proxies(addr netip.Addr) bool {
	if !addr.Is6() || n.parent == "" || n.Options.NDProxy == spec.SwitchOff {
		return false
	}
	for _, s := range n.IPv6 {
		if s.Prefix.Contains(addr) {
			return s.OnLink || n.Options.NDProxy == spec.SwitchOn
		}
	}
	return false
}

// findParent is empty where there is none: the network works on this host until there is one.
func (e *Engine) findParent(ctx context.Context, n *network) string {
	if n.Internal {
		return ""
	}
	if parent := n.namedParent(); parent != "" {
		return parent
	}
	parent, err := e.Host.DefaultParent(ctx)
	if err != nil {
		return ""
	}
	return parent
}

// findMTU is the bridge's. An error says that the parent is away: the network
// works on this host, and in IPv4 perhaps beyond, until it comes.
func (e *Engine) findMTU(ctx context.Context, n *network) (int, error) {
	if n.Options.MTU != 0 {
		return n.Options.MTU, nil
	}
	if n.parent == "" {
		return defaultMTU, nil
	}
	return e.parentMTU(ctx, n.parent)
}

// parentMTU is what a network takes over from its parent.
func (e *Engine) parentMTU(ctx context.Context, parent string) (int, error) {
	mtu, err := e.Links.MTU(ctx, parent)
	if err != nil {
		return defaultMTU, fmt.Errorf("parent %s: %w", parent, err)
	}
	return max(mtu, spec.MinMTU), nil
}

// classify adds to the subnets where they came from, and refuses what does not
// fit together. Subnets that another IPAM driver chose are judged here.
func (e *Engine) classify(ctx context.Context, n *spec.Network) error {
	if n.Options.Parent != "" {
		if _, err := e.Links.MTU(ctx, n.Options.Parent); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("parent %s does not exist", n.Options.Parent)
			}
			return fmt.Errorf("parent %s: %w", n.Options.Parent, err)
		}
	}
	inUse := e.inUse()
	for _, subnets := range [][]spec.Subnet{n.IPv6, n.IPv4} {
		for i := range subnets {
			s := &subnets[i]
			p, err := e.origin(ctx, s.Prefix, n.Options.Parent, inUse)
			if err != nil {
				return err
			}
			s.Source, s.Reason, s.OnLink, s.Parent = p.Source, p.Reason, p.OnLink, p.Parent
			if s.OnLink && n.Options.Parent != "" && s.Parent != n.Options.Parent {
				return fmt.Errorf("subnet %s is on %s, not on parent %s: choose the parent for both with --ipam-opt parent=%s", s.Prefix, s.Parent, n.Options.Parent, n.Options.Parent)
			}
		}
	}
	return nil
}

// origin is our pool of that prefix, or what such a pool would be.
func (e *Engine) origin(ctx context.Context, p netip.Prefix, parent string, inUse []netip.Prefix) (spec.Pool, error) {
	e.mu.Lock()
	ours, ok := e.pools[p.String()]
	var known *spec.Subnet
	for _, n := range e.networks {
		for _, s := range n.Subnets() {
			if s.Prefix == p {
				known = &s
			}
		}
	}
	e.mu.Unlock()
	if ok {
		return ours.Pool, nil
	}
	if known != nil { // the same network again, or an overlap that CreateNetwork names better
		return spec.Pool{Prefix: p, Source: known.Source, Reason: known.Reason, OnLink: known.OnLink, Parent: known.Parent}, nil
	}
	return prefix.Choose(ctx, e.Host, spec.PoolRequest{V6: p.Addr().Is6(), Prefix: p, Source: spec.SourceStatic, Parent: parent}, inUse, e.globalID, e.seed)
}
