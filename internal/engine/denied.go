package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// What a network's denied packets may write to the log: so many lines a second, and so
// many at once. The kernel has a limit of its own, but one for each reason with
// ip6tables, and one for each container that forges.
const (
	deniedRate, deniedBurst = 10, 20
	// briefTime is how long after a line the packets are summed up that had none.
	briefTime = 10 * time.Second
)

// teller is how a network's denied packets come into the log.
type teller struct {
	limit   *rate.Limiter
	counted map[string]uint64 // all that are denied, by what counts them, when they were last summed up; nil: not yet
	lines   uint64            // since then, each of which is one of them
	due     bool              // they will be
}

// hearDenied listens to what rules tell while a network wants it.
func (e *Engine) hearDenied(ctx context.Context) {
	wanted := false
	for _, n := range e.networks {
		wanted = wanted || n.wantsDenied()
	}
	e.unheard = nil
	switch {
	case e.Denials == nil || !wanted && !e.hearing:
	case !wanted:
		if err := e.Denials.Listen(false); err != nil {
			e.Log.Warn("firewall: the log of denied packets", "err", err)
		}
		e.hearing = false
	default:
		if !e.hearing {
			e.unheard = e.Firewall.CanLog(ctx)
		}
		if e.unheard == nil {
			e.unheard = e.Denials.Listen(true)
		}
		e.hearing = e.unheard == nil
	}
	for _, n := range e.networks {
		switch {
		case !e.hearing || !n.wantsDenied():
			n.teller = nil
		case n.teller == nil:
			n.teller = &teller{limit: rate.NewLimiter(deniedRate, deniedBurst)}
		}
	}
}

// wantsDenied reports whether what is denied of a network is to be told.
func (n *network) wantsDenied() bool {
	return n.isRouted() && n.Options.LogDenied && n.Phase != spec.PhaseDeleting
}

// unheardOf is why nothing of what a network wants told is, or nil.
func (e *Engine) unheardOf(n *network) error {
	if e.unheard == nil || !n.isRouted() || !n.Options.LogDenied {
		return nil
	}
	return fmt.Errorf("option log_denied=on: %w", e.unheard)
}

// Denied takes in what a rule has told of a packet that it has dropped.
func (e *Engine) Denied(ctx context.Context, r firewall.Refusal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.teller(r)
	if n == nil {
		return // it has gone meanwhile
	}
	who, peer := e.whoseDenied(n, r)
	e.tellDenied(n, r, who)
	if n.teller.limit.Allow() {
		e.logDenied(n, r, who, peer)
		if !r.Inward || r.Reason != firewall.DeniedIsolated { // which counts for the sender's network
			n.teller.lines++
		}
	}
	if !n.teller.due {
		n.teller.due = true
		e.later(briefTime, func() { e.sumUp(ctx, n.ID) })
	}
}

// teller is the network that a packet was told for; nil: it is gone.
func (e *Engine) teller(r firewall.Refusal) *network {
	if ep := e.byLink[r.Port]; r.Port != "" && ep != nil && r.Reason == firewall.DeniedForged {
		if n := e.networks[ep.NetworkID]; n != nil && n.teller != nil {
			return n
		}
	}
	bridge := r.In
	if r.Inward {
		bridge = r.Out
	}
	for _, n := range e.networks {
		if n.teller != nil && n.Bridge() == bridge {
			return n
		}
	}
	return nil
}

// whoseDenied is the endpoint of the network's that a packet is about, nil: nobody has the
// address; and the other side's, where that is one of ours, too.
func (e *Engine) whoseDenied(n *network, r firewall.Refusal) (who, peer *endpoint) {
	own, other := r.From, r.To
	if r.Inward {
		own, other = r.To, r.From
	}
	if r.Reason == firewall.DeniedForged && r.Port != "" {
		who = e.byLink[r.Port]
	}
	for _, ep := range e.endpointsOf(n.ID) {
		if who == nil && (!r.Inward && r.MAC != "" && ep.MAC == r.MAC || r.Reason != firewall.DeniedForged && n.holds(ep, own)) {
			who = ep
		}
	}
	return who, e.byAddr[other]
}

// holds reports whether an endpoint has an address, or had it before its prefix changed.
func (n *network) holds(ep *endpoint, a netip.Addr) bool {
	return slices.Contains(n.sendsFrom(ep), a)
}

// tellDenied tells who watches.
func (e *Engine) tellDenied(n *network, r firewall.Refusal, who *endpoint) {
	if !e.Events.Wanted(spec.EventFirewall) {
		return
	}
	ev := spec.Event{
		Type: spec.EventFirewall, What: "denied", Reason: string(r.Reason), Network: n.ID, NetworkName: n.Name,
		Source: r.From, Destination: r.To, Protocol: r.Protocol, Port: r.ToPort, Detail: r.Reason.Words(),
	}
	if who != nil {
		ev.Endpoint, ev.Container = who.ID, who.Name
	}
	if hw, err := net.ParseMAC(r.MAC); err == nil {
		copy(ev.MAC[:], hw)
	}
	e.Events.Publish(ev)
}

// logDenied writes the line of a denied packet.
func (e *Engine) logDenied(n *network, r firewall.Refusal, who, peer *endpoint) {
	about := []any{"network", n.ID}
	if who != nil {
		about = subject(who.Endpoint)
	}
	direction := "out"
	if r.Inward {
		direction = "in"
	}
	about = append(about, "direction", direction)
	for _, end := range []struct {
		name string
		addr netip.Addr
		port uint16
	}{{"from", r.From, r.FromPort}, {"to", r.To, r.ToPort}} {
		switch {
		case !end.addr.IsValid(): // it cannot be read
		case r.FromPort != 0 || r.ToPort != 0:
			about = append(about, end.name, netip.AddrPortFrom(end.addr, end.port))
		default:
			about = append(about, end.name, end.addr)
		}
	}
	if peer != nil {
		about = append(about, "peer", cmp.Or(peer.Name, peer.ID))
	}
	about = append(about, "protocol", r.Protocol)
	if r.Type != nil {
		about = append(about, "type", *r.Type)
	}
	if r.Reason == firewall.DeniedForged && r.MAC != "" {
		about = append(about, "mac", r.MAC)
	}
	e.Log.Info("firewall: denied", append(about, "reason", r.Reason, "why", r.Reason.Words())...)
}

// sumUp says how many more packets of a network have been denied than lines were written.
func (e *Engine) sumUp(ctx context.Context, id string) {
	n := e.networks[id]
	if n == nil || n.teller == nil {
		return
	}
	t := n.teller
	t.due = false
	counted, err := e.Firewall.Counters(ctx)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			e.Log.Warn("read the firewall's counters", "err", err)
		}
		return
	}
	before := t.counted
	t.counted = e.deniedOf(counted, n)
	var lost uint64
	for by, all := range t.counted {
		if all < before[by] { // it has begun anew
			before[by] = 0
		}
		lost += all - before[by]
	}
	lost -= min(lost, t.lines)
	t.lines = 0
	if before != nil && lost > 0 {
		e.Log.Info("firewall: denied, without a line of their own", "network", id, "packets", lost)
	}
}

// countDenied notes what has been denied of networks before they began to tell, once the
// rules are there that do.
func (e *Engine) countDenied(ctx context.Context) {
	var begin []*network
	for _, n := range e.networks {
		if n.teller != nil && n.teller.counted == nil {
			begin = append(begin, n)
		}
	}
	if len(begin) == 0 {
		return
	}
	counted, err := e.Firewall.Counters(ctx)
	if err != nil {
		e.Log.Warn("read the firewall's counters", "err", err)
		return
	}
	for _, n := range begin {
		n.teller.counted = e.deniedOf(counted, n)
	}
}

// deniedOf is how many packets of a network have been denied so far.
func (e *Engine) deniedOf(counted firewall.Counters, n *network) map[string]uint64 {
	return counted.Denied(n.policy(e.members(e.endpointsOf(n.ID))...))
}
