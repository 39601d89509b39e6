package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"

	"github.com/v6net/v6net/internal/prefix"
	"github.com/v6net/v6net/internal/spec"
)

// defaultMTU is a network's where neither the user nor a parent says otherwise.
const defaultMTU = 1500

// CreateNetwork makes a network's links, addresses, firewall and host settings. The same network again is no error; another one under the same ID,
// on the same subnet or on a link that is not ours is.
func (e *Engine) CreateNetwork(ctx context.Context, n spec.Network) error {
	if err := n.Validate(); err != nil {
		return err
	}
	m := e.mode(n.Options)
	err := m.settle(ctx, &n)
	if err != nil {
		err = fmt.Errorf("network %s: %w", spec.ShortID(n.ID), err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		err = e.createNetwork(ctx, m, n)
	}
	if err != nil { // settling may have made it
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		err = errors.Join(err, e.removeVLAN(ctx, n.Options.Parent))
	}
	return err
}

// createNetwork is CreateNetwork for a network that is settled.
func (e *Engine) createNetwork(ctx context.Context, m mode, n spec.Network) error {
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
		if other := e.networkUsing(s.Outside); s.Outside.IsValid() && other != nil {
			return fmt.Errorf("network %s: option nptv6=%s overlaps network %s", spec.ShortID(n.ID), s.Outside, spec.ShortID(other.ID))
		}
	}
	if err := m.clash(n); err != nil {
		return fmt.Errorf("network %s: %w", spec.ShortID(n.ID), err)
	}
	if err := e.addNetwork(ctx, n); err != nil {
		if left, ok := e.networks[n.ID]; ok { // it could not be taken back
			left.err = err
			e.planHeal()
		}
		return fmt.Errorf("network %s: %w", spec.ShortID(n.ID), err)
	}
	e.followSources(ctx)
	e.Log.Info("network created", aboutNetwork(n, "mode", n.Options.Mode, "bridge", n.Bridge(), "parent", e.networks[n.ID].parent)...)
	e.tellNetwork("created", n, "")
	for _, s := range n.IPv6 {
		if _, ours := e.pools[s.Prefix.String()]; ours && s.OnLink && (s.Lent == nil || s.Lent.IsShared()) {
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
	e.Log.Info("network deleted", aboutNetwork(n.Network)...)
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
			if err := e.returnHost(p, s); err != nil {
				return err
			}
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
	e.freed()
	if !takenBack {
		e.tellNetwork("deleted", n.Network, "")
	}
	return nil
}

// returnHost gives back the address that was leased for the host itself in a subnet of a
// network whose creation is taken back: no front end knows of it.
func (e *Engine) returnHost(p *pool, s spec.Subnet) error {
	if !s.Host.IsValid() || s.Host == s.Gateway || !p.addrs.Leased(s.Host) {
		return nil
	}
	if err := e.Journal.DeleteLease(p.ID, s.Host); err != nil {
		return err
	}
	p.addrs.Release(s.Host)
	delete(p.loose, s.Host)
	return nil
}

// applyNetwork makes the kernel match one network, and the host match them all. It is
// idempotent. What the host is like is not found out again for each network, from all of its
// links and routes, while the rules of others are in place: changes are told.
func (e *Engine) applyNetwork(ctx context.Context, n *network) error {
	if err := e.mode(n.Options).apply(ctx, n); err != nil {
		return err
	}
	if !e.ruled || e.hostErr != nil {
		return e.applyHost(ctx)
	}
	return errors.Join(
		e.applyFirewallOf(ctx, n),
		e.applyRoutes(ctx),
		e.applySysctlsOf(ctx, n),
		e.applyAdvertisementsOf(ctx, n),
	)
}

// applyHost sets what all present networks need of the host: firewall, routes,
// sysctls and advertisements. The firewall comes first: a host that forwards before its
// rules are there lets everybody in.
func (e *Engine) applyHost(ctx context.Context) error {
	e.defaultLinks, e.uplinks = e.findDefaultLinks(ctx), e.findUplinks(ctx)
	return errors.Join(
		e.applyFirewall(ctx),
		e.applyRoutes(ctx),
		e.applySysctls(ctx),
		e.applyAdvertisements(ctx),
	)
}

// unapplyNetwork is the way back: the network no longer counts, whatever its phase.
func (e *Engine) unapplyNetwork(ctx context.Context, n *network) (err error) {
	delete(e.networks, n.ID)
	defer func() {
		e.networks[n.ID] = n // until the journal has forgotten it too
		if err != nil {
			e.ruled, e.guarded = false, false // it is there without its rules
		}
	}()
	e.setPrefixProxied(n, "")
	guarded := e.guarded
	err = errors.Join(
		e.applyAdvertisementsOf(ctx, n), // while the bridge is there for the farewell
		e.mode(n.Options).unapply(ctx, n),
		e.removeVLAN(ctx, n.namedParent()),
		e.applyRoutes(ctx),
		e.applySysctlsWithout(ctx),
		e.applyFirewallOf(ctx, n),
		e.forgetPools(ctx, n.withNobodys()),
	)
	if e.guarded && !guarded { // it has kept the host from forwarding
		err = errors.Join(err, e.applySysctls(ctx))
	}
	return err
}

// withNobodys are the prefixes that a network has now in which containers may have addresses
// that no endpoint has: auxiliary ones, those that they make themselves, any without antispoof.
func (n *network) withNobodys() (pools []netip.Prefix) {
	if !n.isRouted() {
		return nil // their connections pass this host by
	}
	for _, s := range n.PresentSubnets() {
		if len(s.Aux) > 0 || n.autonomous(s) || n.Options.AnySource {
			pools = append(pools, s.Prefix)
		}
	}
	return pools
}

// forgetPools ends the connections of prefixes that a network has no more: who has such an
// address next, on another network of the prefix, is not reached by them.
func (e *Engine) forgetPools(ctx context.Context, pools []netip.Prefix) error {
	if len(pools) == 0 {
		return nil
	}
	return e.Conntrack.ForgetPools(ctx, pools)
}

// namedParent is the one that the network is bound to, empty for whatever the default route takes.
func (n *network) namedParent() string {
	for _, s := range n.IPv6 {
		if link := s.Link(); link != "" {
			return link
		}
	}
	return n.Options.Parent
}

// findParent is empty where there is none: the network works on this host until there is one.
func (e *Engine) findParent(ctx context.Context, n *network) string {
	if !n.isRouted() {
		return n.childParent()
	}
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

// isAbsent reports whether this host has no link of that name.
func (e *Engine) isAbsent(ctx context.Context, link string) bool {
	_, err := e.Links.MTU(ctx, link)
	return errors.Is(err, fs.ErrNotExist)
}

// parentOf is the link of a pool's addresses, by the name that it has now where nobody has named it.
func (e *Engine) parentOf(ctx context.Context, p *pool) string {
	e.mu.Lock()
	parent, named := p.Parent, p.ParentNamed
	e.mu.Unlock()
	if named {
		return parent
	}
	return cmp.Or(e.whereabouts().elsewhere(ctx, e.current(p), parent), parent)
}

// parentMTU is what a network takes over from its parent.
func (e *Engine) parentMTU(ctx context.Context, parent string) (int, error) {
	mtu, err := e.Links.MTU(ctx, parent)
	if err != nil {
		return defaultMTU, fmt.Errorf("parent %s: %w", parent, err)
	}
	return max(mtu, spec.MinMTU), nil
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
		return spec.Pool{Prefix: p, Source: known.Source, Reason: known.Reason, OnLink: known.OnLink, Parent: known.Parent, ParentNamed: known.ParentNamed, Lent: known.Lent}, nil
	}
	return prefix.Choose(ctx, chooser{e.Host, e, false}, spec.PoolRequest{V6: p.Addr().Is6(), Prefix: p, Source: spec.SourceStatic, Parent: parent}, inUse, e.globalID, e.seed)
}
