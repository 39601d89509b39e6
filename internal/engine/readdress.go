package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// readdress gives running containers the addresses that their networks' prefixes
// come to now, where that is not what they have. The container engine goes on with
// the one that it knows; a container that it starts anew gets one in the current
// prefix (inCurrent). What is about to be given is in the journal before it is
// given, and what was given afterwards, so that a start finds the difference. The
// rules allow it to send from what it has at every moment.
func (e *Engine) readdress(ctx context.Context, endpoints ...*endpoint) {
	var due []*endpoint
	var intents []spec.Endpoint
	wanted := map[*endpoint][]spec.SandboxAddress{}
	for _, ep := range endpoints {
		ep.unaddressed = nil
		n, known := e.networks[ep.NetworkID]
		if !known || ep.Phase != spec.PhaseReady || !ep.Joined || ep.linkGone || ep.Sandbox == "" {
			continue
		}
		s, known := n.SubnetOf(ep.Endpoint)
		if !known || s.Lent == nil || !ep.IPv6.IsValid() {
			continue
		}
		wanted[ep] = s.Lent.AddressesFor(ep.Endpoint)
		if slices.EqualFunc(ep.Holding(), wanted[ep], sameAddress) {
			ep.stale = nil
			continue
		}
		intent := ep.Endpoint
		intent.Held = ep.Holding()
		for _, w := range wanted[ep] {
			if !slices.ContainsFunc(intent.Held, func(h spec.SandboxAddress) bool { return h.Prefix == w.Prefix }) {
				w.Pending = true
				intent.Held = append(slices.Clone(intent.Held), w)
			}
		}
		due, intents = append(due, ep), append(intents, intent)
	}
	if len(due) == 0 {
		return
	}
	if err := e.Journal.PutAll(nil, nil, intents); err != nil {
		e.failAll(due, err)
		return
	}
	var done []*endpoint
	var outcomes []spec.Endpoint
	for i, ep := range due {
		ep.Endpoint = intents[i]
		err := e.Sandboxes.Readdress(ctx, ep.Sandbox, spec.EndpointAlias(ep.ID), wanted[ep], unwanted(ep.Held, wanted[ep]))
		before := ep.stale
		ep.stale = nil
		switch {
		case err == nil:
			outcome := ep.Endpoint
			outcome.Held = append([]spec.SandboxAddress{}, wanted[ep]...)
			done, outcomes = append(done, ep), append(outcomes, outcome)
		case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
			ep.stale = err
		default:
			ep.unaddressed = fmt.Errorf("addresses in its container: %w", err)
			e.Log.Error("addresses in its container", subject(ep.Endpoint, "err", err)...)
		}
		if ep.stale != nil && before == nil {
			e.Log.Warn("a running container keeps its addresses until it is started again", subject(ep.Endpoint, "sandbox", ep.Sandbox, "err", err)...)
		}
	}
	if len(done) == 0 {
		return
	}
	if err := e.Journal.PutAll(nil, nil, outcomes); err != nil {
		e.failAll(done, err)
		return
	}
	var changed [][2]*endpoint // what they were, and are
	for i, ep := range done {
		was := *ep
		ep.Endpoint = outcomes[i]
		if n := e.networks[ep.NetworkID]; n.isRouted() && !slices.Equal(n.sendsFrom(&was), n.sendsFrom(ep)) {
			changed = append(changed, [2]*endpoint{&was, ep})
		}
	}
	if err := e.applyHeld(ctx, changed); err != nil {
		e.failAll(done, err)
	}
}

// applyHeld changes the ruleset after containers' links have got other addresses, at no
// cost for the others, as applyContainer does. What they were about to be given was allowed
// before that: with the networks' new prefixes, which the rules are made for first.
func (e *Engine) applyHeld(ctx context.Context, changed [][2]*endpoint) error {
	switch {
	case len(changed) == 0:
		return nil
	case !e.ruled:
		return e.applyFirewall(ctx)
	}
	var changes []firewall.Change
	for _, c := range changed {
		was, ep := c[0], c[1]
		less, err := e.networks[ep.NetworkID].changes(e.member(was, ep.ID, was), e.member(ep, ep.ID, ep))
		if err != nil {
			return fmt.Errorf("firewall: %w", err)
		}
		changes = append(changes, less...)
	}
	err := e.Firewall.Update(ctx, changes)
	if err != nil {
		e.ruled, e.guarded = false, false
	}
	return err
}

func (e *Engine) failAll(endpoints []*endpoint, err error) {
	for _, ep := range endpoints {
		ep.unaddressed = fmt.Errorf("addresses in its container: %w", err)
		e.Log.Error("addresses in its container", subject(ep.Endpoint, "err", err)...)
	}
}

// readdressArrived is readdress for a container whose link has just come up: the
// addresses that it has got may be from before the last change.
func (e *Engine) readdressArrived(ctx context.Context, ep *endpoint) {
	if e.readdress(ctx, ep); ep.unaddressed != nil {
		e.planHeal()
	}
}

func sameAddress(a, b spec.SandboxAddress) bool {
	return a.Prefix == b.Prefix && a.Former == b.Former && a.Valid.Equal(b.Valid) && a.Pending == b.Pending
}

// unwanted are those of the held addresses that are to go.
func unwanted(held, wanted []spec.SandboxAddress) []netip.Prefix {
	var gone []netip.Prefix
	for _, h := range held {
		if !slices.ContainsFunc(wanted, func(w spec.SandboxAddress) bool { return w.Prefix == h.Prefix }) {
			gone = append(gone, h.Prefix)
		}
	}
	return gone
}
