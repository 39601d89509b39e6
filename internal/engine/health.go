package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// networkError is why a network is degraded, or nil.
func (e *Engine) networkError(n *network) error {
	errs := []error{n.err, n.unruled}
	for _, ep := range e.byNetwork[n.ID] {
		if err := errors.Join(ep.err, ep.unaddressed, ep.unpublished); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %s: %w", spec.ShortID(ep.ID), err))
		}
	}
	if len(errs) > 3 { // their order is a map's
		slices.SortFunc(errs[2:], func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	}
	return errors.Join(errs...)
}

// noteHealth is logChange of a network, for who watches as well.
func (e *Engine) noteHealth(n *network, before error) {
	now := e.networkError(n)
	news := e.logChange("network", before, now, aboutNetwork(n.Network)...)
	switch {
	case news == "":
	case now != nil:
		e.tellNetwork(news, n.Network, now.Error())
	default:
		e.tellNetwork(news, n.Network, "")
	}
}

// logChange says that something is degraded, or well again, when that is news, and which.
func (e *Engine) logChange(what string, before, now error, about ...any) (news string) {
	switch {
	case now != nil && (before == nil || before.Error() != now.Error()):
		news = "degraded"
		e.Log.Error(what+" is degraded", append(about, "err", now)...)
	case now == nil && before != nil:
		news = "well again"
		e.Log.Info(what+" is well again", about...)
	}
	return news
}

// degraded are the networks that are not as they should be.
func (e *Engine) degraded() []*network {
	return slices.DeleteFunc(e.allNetworks(), func(n *network) bool { return e.networkError(n) == nil && n.Phase == spec.PhaseReady })
}

// planHeal has what failed done again later, unless nothing has.
func (e *Engine) planHeal() {
	if e.hostErr == nil && len(e.degraded()) == 0 {
		e.healDue, e.healWait = time.Time{}, 0
		return
	}
	e.healWait = min(max(2*e.healWait, minHealWait), maxHealWait)
	e.healDue = time.Now().Add(e.healWait)
	e.wakeUp()
}

// healSoon is for when the host has changed: what failed may go well now.
func (e *Engine) healSoon() {
	if soon := time.Now().Add(minHealWait); e.healDue.After(soon) {
		e.healDue, e.healWait = soon, 0
		e.wakeUp()
	}
}
