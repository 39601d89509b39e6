package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// MakeNetwork makes a network with its pools and gateways. The same request again
// answers the network that is there.
func (e *Engine) MakeNetwork(ctx context.Context, r spec.NetworkRequest) (spec.Network, error) {
	return e.makeNetwork(ctx, r, false)
}

// makeNetwork is MakeNetwork, or makes one again that its front end remembers. Its
// subnets were judged when it was made: what they were found to be is not asked of
// their user again, nor is a container kept waiting for a probe of the gateway.
func (e *Engine) makeNetwork(ctx context.Context, r spec.NetworkRequest, again bool) (spec.Network, error) {
	if err := spec.CheckID("network", r.ID); err != nil {
		return spec.Network{}, err
	}
	if len(r.IPv6) == 0 {
		return spec.Network{}, fmt.Errorf("network %s: it asks for no IPv6 subnet", spec.ShortID(r.ID))
	}
	if known, ok, err := e.knownNetwork(r); ok || err != nil {
		return known, err
	}
	e.dropPredecessor(r)
	n := spec.Network{ID: r.ID, Name: r.Name, FrontEnd: r.FrontEnd, Options: r.Options, Internal: r.Internal, Names: r.Names}
	var taken []string
	steps := []step{
		{
			what: "pools",
			do: func(ctx context.Context) (err error) {
				if n.IPv6, err = e.takeSubnets(ctx, r.FrontEnd, r.IPv6, &taken); err == nil {
					n.IPv4, err = e.takeSubnets(ctx, r.FrontEnd, r.IPv4, &taken)
				}
				if err == nil && again {
					e.judgedBefore(taken)
				}
				return err
			},
			undo: func(ctx context.Context) error {
				var errs []error
				for _, id := range taken {
					if err := e.ReleasePool(ctx, id); !errors.Is(err, spec.ErrNotFound) {
						errs = append(errs, err)
					}
				}
				return errors.Join(errs...)
			},
		},
		{
			what: "network",
			do:   func(ctx context.Context) error { return e.CreateNetwork(ctx, n) }, // takes itself back
		},
	}
	if err := run(ctx, steps); err != nil {
		return spec.Network{}, fmt.Errorf("network %s: %w", r.Name, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	made, err := e.network(r.ID)
	if err != nil {
		return spec.Network{}, err
	}
	made.made = time.Now()
	e.watchAbandoned(made, settleTime)
	return made.Network, nil
}

// judgedBefore notes that pools are those of a network that was there before.
func (e *Engine) judgedBefore(pools []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range pools {
		if p, ours := e.pools[id]; ours {
			p.judged = true
		}
	}
}

// isJudged reports whether a prefix is a pool of a network that was there before.
func (e *Engine) isJudged(prefix netip.Prefix) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ours := e.pools[prefix.String()]
	return ours && p.judged
}

// knownNetwork is the network that was asked for before by the same request.
func (e *Engine) knownNetwork(r spec.NetworkRequest) (spec.Network, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, ok := e.networks[r.ID]
	if !ok {
		return spec.Network{}, false, nil
	}
	options := n.Options
	if r.Options.Parent == "" {
		options.Parent = "" // it may have been settled
	}
	same := n.Phase == spec.PhaseReady && n.FrontEnd == r.FrontEnd && n.Internal == r.Internal &&
		reflect.DeepEqual(options, r.Options) && areOf(n.IPv6, r.IPv6) && areOf(n.IPv4, r.IPv4)
	if !same {
		return spec.Network{}, false, fmt.Errorf("network %s exists already with other options or subnets", spec.ShortID(r.ID))
	}
	return n.Network, true, nil
}

// areOf reports whether subnets are what was asked for.
func areOf(subnets []spec.Subnet, asked []spec.SubnetRequest) bool {
	return slices.EqualFunc(subnets, asked, func(s spec.Subnet, r spec.SubnetRequest) bool {
		return (!r.Pool.Prefix.IsValid() || r.Pool.Prefix == s.Prefix) && (!r.Gateway.IsValid() || r.Gateway == s.Gateway)
	})
}

// dropPredecessor removes a network of the same name, which its front end does not
// have any more, since names are unique there. It would keep its prefix from the
// new one.
func (e *Engine) dropPredecessor(r spec.NetworkRequest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.allNetworks() {
		if n.FrontEnd == r.FrontEnd && n.Name == r.Name && r.Name != "" && n.ID != r.ID {
			n.made = time.Time{}
			if e.Registry != nil {
				e.dropAbandoned(n.ID)
			}
		}
	}
}

// takeSubnets asks for pools and the addresses of their gateways; taken grows with
// each pool.
func (e *Engine) takeSubnets(ctx context.Context, frontEnd string, asked []spec.SubnetRequest, taken *[]string) ([]spec.Subnet, error) {
	var subnets []spec.Subnet
	for _, r := range asked {
		r.Pool.FrontEnd = frontEnd
		pool, err := e.RequestPool(ctx, r.Pool)
		if err != nil {
			return nil, err
		}
		*taken = append(*taken, pool.ID)
		s := spec.Subnet{Prefix: pool.Prefix}
		if !r.NoGateway || r.Gateway.IsValid() {
			gateway, err := e.RequestAddress(ctx, pool.ID, r.Gateway, true)
			if err != nil {
				return nil, fmt.Errorf("gateway: %w", err)
			}
			s.Gateway = gateway.Addr()
		}
		subnets = append(subnets, s)
	}
	return subnets, nil
}

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

// republish publishes a container's ports by its first network that has a way to
// the outside, which is the one of its default route, and by no other: a host port
// leads to one address of each family. Where that network lacks a family, the next
// one that has it stands in. An endpoint that is about to go does not count.
func (e *Engine) republish(ctx context.Context, container, leaving string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.republishLocked(ctx, container, leaving)
}

func (e *Engine) republishLocked(ctx context.Context, container, leaving string) error {
	type share struct {
		endpoint *endpoint
		ports    []spec.Port
	}
	var shares []share
	left := []spec.Family{spec.IPv6, spec.IPv4} // that no endpoint publishes by yet
	for _, ep := range e.ofContainer(container) {
		n, ok := e.networks[ep.NetworkID]
		if !ok || ep.Phase != spec.PhaseReady {
			continue
		}
		var its []spec.Family
		if ep.ID != leaving && !n.Internal {
			its = slices.DeleteFunc(slices.Clone(left), func(f spec.Family) bool { return !slices.ContainsFunc(ep.Addresses(), f.Has) })
			left = slices.DeleteFunc(left, func(f spec.Family) bool { return slices.Contains(its, f) })
		}
		first := len(left)+len(its) == 2
		if !first && (!n.isRouted() || n.Options.Inbound == spec.InboundNone) {
			its = nil // who only stands in is not refused for what it cannot do
		}
		shares = append(shares, share{ep, ofFamilies(ep.Wanted, its)})
	}
	// Who publishes less than before comes first: the last ones, and whoever leaves.
	slices.Reverse(shares)
	slices.SortStableFunc(shares, func(a, b share) int { return cmp.Compare(min(len(a.ports), 1), min(len(b.ports), 1)) })
	for _, s := range shares {
		resolved, err := e.resolvePorts(e.networks[s.endpoint.NetworkID], s.endpoint, s.ports)
		if err != nil {
			return err
		}
		if slices.Equal(resolved, s.endpoint.Ports) && slices.Equal(s.ports, s.endpoint.Asked) {
			continue
		}
		if err := e.setPorts(ctx, s.endpoint, s.ports, resolved); err != nil {
			return err
		}
	}
	return nil
}

// ofFamilies are ports as they are published for some families.
func ofFamilies(ports []spec.Port, families []spec.Family) []spec.Port {
	if len(families) == 0 {
		return nil
	}
	var all []spec.Port
	for _, p := range ports {
		if len(families) == 1 {
			if p.HostIP.IsValid() && !families[0].Has(p.HostIP) || p.Family != 0 && p.Family != families[0] {
				continue
			}
			p.Family = families[0]
		}
		all = append(all, p)
	}
	return all
}
