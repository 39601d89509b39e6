package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// Status is everything that v6net does on this host, in a stable order.
func (e *Engine) Status(ctx context.Context) spec.Status { return e.status(ctx, e.Proxy.Status()) }

// Summary is Status without proxied addresses, of which there may be a million.
func (e *Engine) Summary(ctx context.Context) spec.Status { return e.status(ctx, e.Proxy.Summary()) }

func (e *Engine) status(ctx context.Context, proxies []spec.ProxyStatus) spec.Status {
	status := spec.Status{Version: e.Version, Firewall: e.Firewall.Backend(), Proxies: proxies, Delegations: e.Sources.Status()}
	advertisers := map[string]spec.AdvertiserStatus{}
	for _, a := range e.Advertisers.Status() {
		advertisers[a.Link] = a
	}
	counted, obstacles := e.lookAtRules(ctx) // which takes time, while others work
	status.Obstacles = obstacles
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.hostErr != nil {
		status.Error = e.hostErr.Error()
	}
	at := e.whereabouts()
	for _, id := range sortedIDs(e.networks) {
		n := e.networks[id]
		ns := spec.NetworkStatus{Network: n.Network, Bridge: n.Bridge(), Parent: n.parent, Endpoints: []spec.Endpoint{}}
		if err := e.networkError(n); err != nil {
			ns.Error = err.Error()
		}
		if a, ok := advertisers[n.Bridge()]; ok {
			ns.RA = &a
			delete(advertisers, n.Bridge())
		}
		if lost := n.lostWords(); lost != "" {
			ns.Notes = append(ns.Notes, lost)
		}
		ns.Notes = append(ns.Notes, n.strandedWords(ctx, at)...)
		if n.isRouted() && counted != nil {
			counters := counted.Of(n.policy(e.members(e.endpointsOf(id))...))
			ns.Firewall = &counters
		}
		for _, ep := range e.endpointsOf(id) {
			ns.Endpoints = append(ns.Endpoints, ep.Endpoint)
			if ep.stale != nil {
				ns.Notes = append(ns.Notes, ep.staleWords())
			}
		}
		status.Networks = append(status.Networks, ns)
	}
	for _, id := range sortedIDs(e.pools) {
		p := e.pools[id]
		status.Pools = append(status.Pools, spec.PoolStatus{
			Pool:   p.Pool,
			Leases: p.leases(),
			Used:   e.networkUsing(p.Prefix) != nil,
		})
	}
	for _, key := range sortedIDs(e.sysctls) {
		status.Sysctls = append(status.Sysctls, spec.SysctlStatus{Key: key, Original: e.sysctls[key]})
	}
	for _, link := range sortedIDs(advertisers) {
		status.Parents = append(status.Parents, advertisers[link])
	}
	inWallTime(&status, e.Clock.Ahead())
	return status
}

// lookAtRules asks the kernel what ours have counted, and which of others' refuse what
// they let through. It holds no lock of the engine's: iptables takes its time to say.
func (e *Engine) lookAtRules(ctx context.Context) (counted firewall.Counters, obstacles []spec.Obstacle) {
	e.mu.Lock()
	there := e.guarded
	e.mu.Unlock()
	if !there {
		return nil, nil
	}
	counted, err := e.Firewall.Counters(ctx)
	if err != nil {
		e.Log.Warn("read the firewall's counters", "err", err)
	}
	if e.Inspector == nil {
		return counted, nil
	}
	if obstacles, err = e.Inspector.Obstacles(ctx); err != nil {
		e.Log.Warn("look for obstacles", "err", err)
	}
	return counted, obstacles
}

// staleWords are why the endpoint's container has not followed a change, and what mends it.
func (ep *endpoint) staleWords() string {
	words := fmt.Sprintf("endpoint %s keeps the addresses that it had before the last change until its container is started again: %v", spec.ShortID(ep.ID), ep.stale)
	if errors.Is(ep.stale, fs.ErrNotExist) { // which the managed plugin sees where mounts are not passed on to it
		words += "; if the container runs, `mount --make-rshared /` and a restart of the engine let v6net in"
	}
	return words
}
