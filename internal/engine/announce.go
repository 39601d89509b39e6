package engine

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// announceInterval is RetransTimer: further unsolicited advertisements come no
// sooner (RFC 4861 §7.2.6).
const announceInterval = time.Second

// announcement tells the hosts behind the ports that the addresses are now at mac.
type announcement struct {
	endpoint spec.Endpoint
	ports    []string
	addrs    []netip.Addr
	mac      net.HardwareAddr
}

// announce tells neighbours where an endpoint's addresses are now. Run sends it:
// no call is to wait for that.
func (e *Engine) announce(ctx context.Context, ep *endpoint) {
	if n, ok := e.networks[ep.NetworkID]; ok {
		e.mode(n.Options).announce(ctx, n, ep)
	}
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
				e.Log.Warn("announce", subject(a.endpoint, "address", addr, "err", err)...)
			}
		}
	}
}

// parentChanged announces what is on a parent that came up: the link may have
// forgotten it, or be another than before.
func (e *Engine) parentChanged(ctx context.Context, name string, up bool) {
	was, known := e.parentUp[name]
	if !known {
		return
	}
	e.parentUp[name] = up
	if !up || was {
		return
	}
	for _, n := range e.allNetworks() {
		if n.isRouted() || n.parent != name {
			continue
		}
		for _, ep := range e.endpointsOf(n.ID) {
			if ep.Joined && !ep.linkGone {
				e.announce(ctx, ep)
			}
		}
	}
}
