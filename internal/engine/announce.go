package engine

import (
	"context"
	"net"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

// announcement tells the hosts behind the ports that the addresses are now at mac.
type announcement struct {
	endpoint string
	ports    []string
	addrs    []netip.Addr
	mac      net.HardwareAddr
}

// announce has the host and the bridge's other containers told where an address is
// now, in case they remember its last owner (RFC 4861 §7.2.6, RFC 5227 §3). Run
// tells the containers: a bridge has up to a thousand, and no call is to wait for
// that.
func (e *Engine) announce(ctx context.Context, ep *endpoint) {
	n, err := e.network(ep.NetworkID)
	if err != nil {
		return
	}
	mac, err := net.ParseMAC(ep.MAC)
	if err != nil {
		return // complete has checked it
	}
	for _, addr := range ep.Addresses() {
		if err := e.Links.ForgetNeighbour(ctx, n.Bridge(), addr); err != nil {
			e.Log.Warn("forget neighbour", "endpoint", ep.ID, "address", addr, "err", err)
		}
	}
	if !n.Options.ICC {
		return
	}
	a := announcement{endpoint: ep.ID, addrs: ep.Addresses(), mac: mac}
	for _, other := range e.endpointsOf(ep.NetworkID) {
		if other != ep && other.Joined && !other.linkGone {
			a.ports = append(a.ports, spec.VethName(other.ID))
		}
	}
	e.announcements = append(e.announcements, a)
	e.wakeUp()
}

// sendAnnouncements sends those that wait, while the engine goes on.
func (e *Engine) sendAnnouncements(ctx context.Context) {
	e.mu.Lock()
	waiting := e.announcements
	e.announcements = nil
	e.mu.Unlock()
	for _, a := range waiting {
		for _, addr := range a.addrs {
			if err := e.Host.Announce(ctx, a.ports, addr, a.mac); err != nil && ctx.Err() == nil {
				e.Log.Warn("announce", "endpoint", a.endpoint, "address", addr, "err", err)
			}
		}
	}
}
