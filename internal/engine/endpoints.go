package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// CreateEndpoint makes a container's attachment and answers with what it filled
// in. The same endpoint again is no error.
func (e *Engine) CreateEndpoint(ctx context.Context, ep spec.Endpoint) (spec.Endpoint, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.network(ep.NetworkID)
	if err != nil {
		return spec.Endpoint{}, err
	}
	fail := func(err error) (spec.Endpoint, error) {
		return spec.Endpoint{}, fmt.Errorf("network %s: endpoint %s: %w", spec.ShortID(n.ID), spec.ShortID(ep.ID), err)
	}
	if err := e.complete(ctx, n, &ep); err != nil {
		return fail(err)
	}
	if old, ok := e.endpoints[ep.ID]; ok {
		if old.Phase == spec.PhaseReady && old.NetworkID == ep.NetworkID && old.MAC == ep.MAC && old.IPv4 == ep.IPv4 && old.IPv6 == ep.IPv6 {
			return old.Endpoint, nil
		}
		return fail(fmt.Errorf("it exists already with other addresses"))
	}
	for _, l := range ep.Leases() {
		if other, taken := e.byAddr[l.Addr()]; taken && l.IsValid() {
			return fail(fmt.Errorf("address %s belongs to endpoint %s", l.Addr(), spec.ShortID(other.ID)))
		}
	}
	if link := e.modeOf(ep).link(ep.ID); e.byLink[link] != nil {
		return fail(fmt.Errorf("link %s belongs to endpoint %s", link, e.byLink[link].ID))
	}
	if n.Phase != spec.PhaseReady {
		return fail(fmt.Errorf("the network's deletion has failed half-way: delete it again"))
	}
	if err := e.addEndpoint(ctx, n, ep); err != nil {
		if left, ok := e.endpoints[ep.ID]; ok { // it could not be taken back
			left.err = err
			e.planHeal()
		}
		return fail(err)
	}
	e.Log.Info("endpoint created", subject(ep, "addresses", ep.Addresses())...)
	e.tellEndpoint("created", e.endpoints[ep.ID])
	return ep, nil
}

// complete checks an endpoint's addresses and gives it a MAC address if it has none.
func (e *Engine) complete(ctx context.Context, n *network, ep *spec.Endpoint) error {
	if err := spec.CheckID("endpoint", ep.ID); err != nil {
		return err
	}
	addrs := ep.Addresses()
	if len(addrs) == 0 {
		return fmt.Errorf("no address: the network needs an IPAM driver other than null")
	}
	for _, a := range addrs {
		if err := n.checkAddress(a); err != nil {
			return err
		}
	}
	if home := n.HomeOf(ep.IPv6.Addr()); ep.IPv6.IsValid() && home != ep.IPv6.Addr() {
		ep.Home = home
	}
	if err := e.mode(n.Options).address(ctx, n, ep); err != nil {
		return err
	}
	ep.Phase = spec.PhaseReady
	return nil
}

// madeAddress is the hardware address that was asked for, or one made from the
// endpoint's first address.
func (n *network) madeAddress(ep *spec.Endpoint) error {
	if ep.MAC == "" {
		ep.MAC = spec.EndpointMAC(n.ID, ep.Addresses()[0]).String()
	}
	mac, err := net.ParseMAC(ep.MAC)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return fmt.Errorf("MAC address %q is not a unicast Ethernet address such as 02:00:5e:10:00:01", ep.MAC)
	}
	ep.MAC = mac.String()
	return nil
}

func (n *network) checkAddress(a netip.Addr) error {
	for _, s := range append(n.Subnets(), n.Present()...) {
		if s.Gateway == a {
			return fmt.Errorf("address %s is the gateway's", a)
		}
		if s.Prefix.Contains(a) {
			return nil
		}
	}
	return fmt.Errorf("address %s is in none of the network's subnets", a)
}

// addEndpoint journals the intent, changes the kernel, and journals the outcome.
func (e *Engine) addEndpoint(ctx context.Context, n *network, spe spec.Endpoint) error {
	ep := &endpoint{Endpoint: spe}
	ep.Phase = spec.PhaseCreating
	var adopted []lease
	return run(ctx, []step{
		{
			what: "leases",
			do: func(ctx context.Context) (err error) {
				adopted, err = e.adoptLeases(ctx, ep)
				return err
			},
			undo: func(context.Context) error { return e.dropLeases(adopted) },
		},
		{
			what: "journal",
			do: func(context.Context) error {
				if err := e.Journal.PutEndpoint(ep.Endpoint); err != nil {
					return err
				}
				e.remember(ep)
				return nil
			},
			undo: func(context.Context) error {
				e.forget(ep)
				return e.Journal.DeleteEndpoint(ep.ID)
			},
		},
		{
			what: "apply",
			do: func(ctx context.Context) error {
				if err := e.applyEndpoint(ctx, n, ep); err != nil {
					return err
				}
				return e.applyContainer(ctx, nil, ep)
			},
			undo: func(ctx context.Context) error {
				ep.Phase = spec.PhaseDeleting
				return e.unapplyEndpoint(ctx, ep)
			},
		},
		{
			what: "journal",
			do: func(context.Context) error {
				ep.Phase = spec.PhaseReady
				if err := e.Journal.PutEndpoint(ep.Endpoint); err != nil {
					return err
				}
				e.awaitJoined(ep)
				return nil
			},
		},
	})
}

// DeleteEndpoint removes an endpoint. The error matches spec.ErrNotFound for an unknown one.
func (e *Engine) DeleteEndpoint(ctx context.Context, networkID, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	ep, err := e.endpoint(networkID, id)
	if err != nil {
		return err
	}
	if ep.err = e.removeEndpoint(ctx, ep); ep.err != nil {
		e.planHeal()
		return fmt.Errorf("network %s: endpoint %s: %w", spec.ShortID(networkID), spec.ShortID(id), ep.err)
	}
	e.Log.Info("endpoint deleted", subject(ep.Endpoint)...)
	return nil
}

// removeEndpoint is dropEndpoint with Engine.mu let go while connections are forgotten,
// which takes the longer the larger the kernel's table is, and must not hold up all other
// containers. Nobody can make new connections then, and the addresses are the endpoint's
// until it is gone. Somebody else may have removed it meanwhile.
func (e *Engine) removeEndpoint(ctx context.Context, ep *endpoint) error {
	if err := e.noteDeleting(ep); err != nil {
		return err
	}
	e.setProxied(ep, "")
	closed := e.applyContainer(ctx, ep, nil)
	forgotten := e.forgetUnlocked(ctx, e.sendsFrom(ep))
	if e.endpoints[ep.ID] != ep {
		return nil
	}
	return e.noteDeleted(ep, errors.Join(closed, forgotten, e.detach(ctx, ep)))
}

// forgetUnlocked lets Engine.mu go for as long as it takes.
func (e *Engine) forgetUnlocked(ctx context.Context, addrs []netip.Addr) error {
	e.mu.Unlock()
	defer e.mu.Lock()
	return e.Conntrack.Forget(ctx, addrs)
}

// dropEndpoint takes an endpoint away; it can be repeated until it succeeds.
// Its leases stay: they are the IPAM front end's to release.
func (e *Engine) dropEndpoint(ctx context.Context, ep *endpoint) error {
	if err := e.noteDeleting(ep); err != nil {
		return err
	}
	return e.noteDeleted(ep, e.unapplyEndpoint(ctx, ep))
}

func (e *Engine) noteDeleting(ep *endpoint) error {
	ep.Phase = spec.PhaseDeleting
	return e.Journal.PutEndpoint(ep.Endpoint)
}

// noteDeleted forgets an endpoint, unless something of it could not be taken away.
func (e *Engine) noteDeleted(ep *endpoint, err error) error {
	if err != nil {
		return err
	}
	if err := e.Journal.DeleteEndpoint(ep.ID); err != nil {
		return err
	}
	e.setProxied(ep, "") // whoever has looked at its network meanwhile
	if ep.Joined {
		e.tellEndpoint("left", ep)
	}
	e.tellEndpoint("deleted", ep)
	e.forget(ep)
	wait := settleTime
	if n, known := e.networks[ep.NetworkID]; known {
		n.former.left(ep.Endpoint, time.Now())
		if n.FrontEnd != "" { // which knows of no leases, and releases none
			wait = absentTime
		}
	}
	for _, a := range ep.Leases() {
		if p, ours := e.pools[a.Masked().String()]; ours && p.addrs.Leased(a.Addr()) {
			e.loosenFor(p, a.Addr(), wait)
		}
	}
	return nil
}

// Endpoint answers what is known of an endpoint. The error matches spec.ErrNotFound for an unknown one.
func (e *Engine) Endpoint(_ context.Context, networkID, id string) (spec.Endpoint, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ep, err := e.endpoint(networkID, id)
	if err != nil {
		return spec.Endpoint{}, err
	}
	return ep.Endpoint, nil
}

// applyEndpoint makes the kernel match one endpoint. It is idempotent. Addresses that it
// has no more are not answered for any more, whatever fails: they may be another host's.
func (e *Engine) applyEndpoint(ctx context.Context, n *network, ep *endpoint) error {
	err := e.mode(n.Options).attach(ctx, n, ep)
	e.answerFor(n, ep)
	return err
}

// unapplyEndpoint is the way back, of an endpoint that is being deleted. Connections are forgotten when nothing can make
// new ones, and before another container can have the addresses.
func (e *Engine) unapplyEndpoint(ctx context.Context, ep *endpoint) error {
	e.setProxied(ep, "")
	return errors.Join(
		e.applyContainer(ctx, ep, nil),
		e.Conntrack.Forget(ctx, e.sendsFrom(ep)),
		e.detach(ctx, ep),
	)
}

// detach removes an endpoint's link, of whatever kind where its network is unknown.
func (e *Engine) detach(ctx context.Context, ep *endpoint) error {
	if n, known := e.networks[ep.NetworkID]; known {
		return e.mode(n.Options).detach(ctx, n, ep)
	}
	return errors.Join(
		e.Links.Remove(ctx, spec.VethName(ep.ID), spec.EndpointAlias(ep.ID)),
		e.Links.Remove(ctx, spec.SandboxName(ep.ID), spec.EndpointAlias(ep.ID)),
		e.Links.RemoveElsewhere(ctx, spec.EndpointAlias(ep.ID)))
}
