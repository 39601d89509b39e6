package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

// Attach makes a container's attachment with its addresses, publishes its ports if
// this is its first network, and hands its link to the runtime. The same request
// again answers the attachment that is there; another one for the same endpoint
// replaces it.
func (e *Engine) Attach(ctx context.Context, r spec.AttachRequest) (spec.Attached, error) {
	if err := spec.CheckID("endpoint", r.ID); err != nil {
		return spec.Attached{}, err
	}
	n, err := e.networkOf(ctx, r)
	if err != nil {
		return spec.Attached{}, err
	}
	fail := func(err error) (spec.Attached, error) {
		return spec.Attached{}, fmt.Errorf("network %s: %w", n.Name, err)
	}
	old, err := e.Endpoint(ctx, n.ID, r.ID)
	if err == nil && !e.isAttached(old, r) {
		err = e.Detach(ctx, n.ID, r.ID)
		old = spec.Endpoint{}
	}
	if err != nil && !errors.Is(err, spec.ErrNotFound) {
		return fail(err)
	}
	var attachment spec.Attachment
	if old.ID == "" {
		attachment, err = e.makeAttached(ctx, n, r)
	} else if attachment, err = e.Join(ctx, n.ID, r.ID, r.Sandbox); err == nil {
		err = e.republish(ctx, r.Container, "") // a daemon may have been killed between the two
	}
	if err != nil {
		return fail(err)
	}
	ep, err := e.Endpoint(ctx, n.ID, r.ID)
	if err != nil {
		return fail(err)
	}
	return spec.Attached{Endpoint: ep, Attachment: attachment, Servers: servers(n)}, nil
}

// networkOf is the network of a request. Where the daemon does not know it, its
// journal having been lost, it is made as its front end remembers it.
func (e *Engine) networkOf(ctx context.Context, r spec.AttachRequest) (spec.Network, error) {
	e.mu.Lock()
	n, err := e.network(r.Network.ID)
	if err == nil {
		err = e.noteNames(ctx, n, r.Network.Names)
		known := n.Network
		e.mu.Unlock()
		return known, err
	}
	e.mu.Unlock()
	e.Log.Info("network is unknown; making it as its container engine has it", "network", r.Network.ID, "name", r.Network.Name)
	return e.makeNetwork(ctx, r.Network, true)
}

// noteNames takes in whether a name server answers on the network's bridge, which
// earlier daemons were not told.
func (e *Engine) noteNames(ctx context.Context, n *network, names bool) error {
	if n.Names == names {
		return nil
	}
	to := n.Network
	to.Names = names
	if err := e.Journal.PutNetwork(to); err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	n.Network = to
	if err := e.applyFirewall(ctx); err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	return nil
}

// isAttached reports whether an endpoint is what is asked for.
func (e *Engine) isAttached(ep spec.Endpoint, r spec.AttachRequest) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	entry, ok := e.endpoints[ep.ID]
	if !ok || entry.linkGone || ep.Phase != spec.PhaseReady || !ep.Joined {
		return false
	}
	for _, a := range r.Addresses {
		if !slices.Contains(ep.Addresses(), a) && !slices.Contains(e.addressesOf(entry), a) {
			return false
		}
	}
	asParent := ep.MAC == "" // of ipvlan: it has none of its own
	return ep.Sandbox == r.Sandbox && ep.Interface == r.Interface && slices.Equal(ep.Wanted, r.Ports) &&
		(r.MAC == "" || r.MAC == ep.MAC || asParent)
}

// makeAttached makes the endpoint of a request.
func (e *Engine) makeAttached(ctx context.Context, n spec.Network, r spec.AttachRequest) (attachment spec.Attachment, err error) {
	ep := spec.Endpoint{
		ID: r.ID, NetworkID: n.ID, MAC: r.MAC,
		Container: r.Container, Name: r.Name, Interface: r.Interface, Rank: e.rank(r.Container, r.Interface), Wanted: r.Ports,
	}
	err = run(ctx, []step{
		{
			what: "addresses",
			do:   func(ctx context.Context) error { return e.leaseFor(ctx, n, &ep, r.Addresses) },
			undo: func(ctx context.Context) error {
				var errs []error
				for _, a := range ep.Leases() {
					if !a.IsValid() {
						continue
					}
					if err := e.ReleaseAddress(ctx, a.Masked().String(), a.Addr()); !errors.Is(err, spec.ErrNotFound) {
						errs = append(errs, err)
					}
				}
				return errors.Join(errs...)
			},
		},
		{
			what: "endpoint",
			do: func(ctx context.Context) error {
				_, err := e.CreateEndpoint(ctx, ep)
				return err
			},
			undo: func(ctx context.Context) error {
				if err := e.DeleteEndpoint(ctx, n.ID, ep.ID); !errors.Is(err, spec.ErrNotFound) {
					return err
				}
				return nil
			},
		},
		{
			what: "join",
			do: func(ctx context.Context) (err error) {
				attachment, err = e.Join(ctx, n.ID, ep.ID, r.Sandbox)
				return err
			},
		},
		{
			what: "ports",
			do:   func(ctx context.Context) error { return e.republish(ctx, r.Container, "") },
			undo: func(ctx context.Context) error { return e.republish(ctx, r.Container, ep.ID) },
		},
	})
	return attachment, err
}

// leaseFor gives an endpoint an address of each family that the network has: the
// one asked for, or a free one.
func (e *Engine) leaseFor(ctx context.Context, n spec.Network, ep *spec.Endpoint, asked []netip.Addr) error {
	asked = slices.Clone(asked)
	for i, a := range asked {
		asked[i] = n.HomeOf(a)
		if !slices.ContainsFunc(n.Subnets(), func(s spec.Subnet) bool { return s.Prefix.Contains(asked[i]) }) {
			return fmt.Errorf("address %s is in none of the network's subnets", a)
		}
	}
	for _, family := range []struct {
		subnets []spec.Subnet
		lease   *netip.Prefix
	}{{n.IPv6, &ep.IPv6}, {n.IPv4, &ep.IPv4}} {
		if len(family.subnets) == 0 {
			continue
		}
		subnet, want := family.subnets[0], netip.Addr{}
		for _, s := range family.subnets {
			for _, a := range asked {
				if !s.Prefix.Contains(a) {
					continue
				}
				if want.IsValid() {
					return fmt.Errorf("addresses %s and %s: a container has one of each family on a network", want, a)
				}
				subnet, want = s, a
			}
		}
		var err error
		if *family.lease, err = e.RequestAddress(ctx, subnet.Prefix.String(), want, false); err != nil {
			return err
		}
		if subnet.Lent != nil && !subnet.Prefix.Contains(family.lease.Addr()) {
			ep.Home = spec.Renumbered(family.lease.Addr(), subnet.Prefix)
		}
	}
	return nil
}

// servers are the bridge's own addresses that containers reach; none without a
// bridge. A prefix that is lent may go, and what a container knows of its name
// server stays: where the network has IPv4, it is that.
func servers(n spec.Network) []netip.Addr {
	var addrs []netip.Addr
	if n.Options.Mode != spec.ModeBridge {
		return nil
	}
	for _, s := range n.PresentSubnets() {
		if s.Lent != nil && (s.Lent.Prefixes[0].Former || len(n.IPv4) > 0 && !n.Options.Inhibit4) {
			continue
		}
		if n.HasGateway(s) {
			addrs = append(addrs, s.Gateway)
		}
	}
	return addrs
}

// Detach removes a container's attachment with its addresses and ports; these move
// to its next network. The error matches spec.ErrNotFound for an unknown one.
func (e *Engine) Detach(ctx context.Context, networkID, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	ep, err := e.endpoint(networkID, id)
	if err != nil {
		return err
	}
	if ep.err = e.dropAttached(ctx, ep); ep.err != nil {
		e.planHeal()
		return fmt.Errorf("network %s: endpoint %s: %w", spec.ShortID(networkID), spec.ShortID(id), ep.err)
	}
	e.Log.Info("endpoint deleted", subject(ep.Endpoint)...)
	if n, ok := e.networks[networkID]; ok {
		e.watchAbandoned(n, 0) // it may have waited for its last container
	}
	return nil
}

// dropAttached removes an endpoint with its leases, and moves its ports on to the
// container's next network. Where that fails the container goes without. What somebody
// else has removed of it meanwhile, a renumbering say, has left the rest to do.
func (e *Engine) dropAttached(ctx context.Context, ep *endpoint) error {
	if err := e.removeEndpoint(ctx, ep); err != nil {
		return err
	}
	for _, a := range ep.Leases() {
		p, ours := e.pools[a.Masked().String()]
		if !ours || !p.addrs.Leased(a.Addr()) || e.byAddr[a.Addr()] != nil {
			continue
		}
		if err := e.dropLease(p, a.Addr()); err != nil {
			return err // a chore of dropEndpoint's tries again
		}
		delete(p.loose, a.Addr())
		p.addrs.Release(a.Addr())
	}
	if err := e.republishLocked(ctx, ep.Container, ep.ID); err != nil {
		e.Log.Error("publish ports by the container's next network", subject(ep.Endpoint, "err", err)...)
	}
	return nil
}
