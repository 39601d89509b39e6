// Package pd is a DHCPv6 client that has prefixes delegated (RFC 8415): the machine,
// on a small [Conn] of its own. It opens no socket and writes no file.
//
// Confirm and Decline are for addresses alone. Unicast to a server and Reconfigure
// are not used: the first saves nothing on a link, the second would let whoever can
// read the link renumber this host.
package pd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/v6net/v6net/internal/spec"
)

// Config is what a Client is made of.
type Config struct {
	Link string
	DUID []byte   // names this host to servers, for good (RFC 8415 §11)
	IAID []uint32 // of the prefixes to ask for, one each, for good on this link (§12)
	Bits int      // the length of prefix to ask for, if there is one; zero: any
	Boot string   // which boot of the machine this is
	// Lease is what was lent before, and is still where its time has not ended.
	Lease spec.DelegationLease
	Dial  Dialer
	Now   func() time.Time // that lifetimes are kept by; nil: time.Now
	Log   *slog.Logger
}

// A Client has prefixes delegated on one link.
type Client struct {
	config  Config
	changed chan struct{} // the link
	hurried atomic.Bool   // no waiting before the next Solicit
	report  func(spec.DelegationReport)

	// Of the goroutine that calls Run, and then Release.
	lease       spec.DelegationLease
	said        spec.DelegationReport
	refusedAt   time.Time     // when a refusal was last reported
	solicitMost time.Duration // SOL_MAX_RT
	unhinted    bool          // servers lend nothing of the length that was asked for
	sent        bucket
	calm        bool // the host was just started, or its link: wait before the first message
	moved       bool // the link may be another one
}

// The states of a client, in words.
const (
	stateSoliciting = "soliciting"
	stateRequesting = "requesting"
	stateBound      = "bound"
	stateRenewing   = "renewing"
	stateRebinding  = "rebinding"
)

// New makes a Client, which begins with Run.
func New(config Config) *Client {
	if config.Now == nil {
		config.Now = time.Now
	}
	c := &Client{config: config, changed: make(chan struct{}, 1), solicitMost: solicitMost, lease: config.Lease}
	known := len(c.lease.Delegations()) > 0
	c.calm = known
	c.moved = known && c.lease.Boot != config.Boot
	c.lease.SourceOnLink = spec.SourceOnLink{Source: spec.SourcePD, Link: config.Link}
	c.lease.Associations = nil
	for _, id := range config.IAID {
		a := spec.Association{ID: id}
		for _, old := range config.Lease.Associations {
			if old.ID == id {
				a = old
			}
		}
		c.lease.Associations = append(c.lease.Associations, a)
	}
	return c
}

// LinkChanged says that the link came up or changed, so that it may be another one, or
// that the machine has slept (RFC 8415 §18.2.12).
func (c *Client) LinkChanged() {
	select {
	case c.changed <- struct{}{}:
	default: // it is known already
	}
}

// AddressesChanged is of no interest: what is lent is asked of servers.
func (c *Client) AddressesChanged() {}

// Ask says that somebody waits for a prefix: a server is looked for at once.
func (c *Client) Ask() {
	c.hurried.Store(true)
	c.LinkChanged()
}

// Run has prefixes delegated until ctx ends, and reports every change. What is lent
// then stays so.
func (c *Client) Run(ctx context.Context, report func(spec.DelegationReport)) {
	c.report = report
	c.expire(c.config.Now())
	for ctx.Err() == nil {
		if c.empty() {
			c.discover(ctx)
		} else {
			c.hold(ctx)
		}
	}
}

// Release gives back what is lent, after Run (RFC 8415 §18.2.7). It ends with ctx, or
// when no server answers.
func (c *Client) Release(ctx context.Context) error {
	q := question{kind: dhcpv6.MessageTypeRelease, server: c.lease.Server}
	for _, a := range c.lease.Associations {
		if len(a.Delegations) > 0 {
			q.associations = append(q.associations, a)
		}
	}
	if len(q.associations) == 0 {
		return nil
	}
	c.forget()
	c.report = func(spec.DelegationReport) {}
	return c.exchange(ctx, q, releaseTiming, func(a answer) bool { return a.reply }, nil)
}

// say reports a state and what is lent. An error of before stands until a server
// has confirmed the lease.
func (c *Client) say(state string) {
	c.said.State = state
	c.said.Answered = c.said.Answered || state == stateBound
	c.said.Lease = c.lease
	c.said.Lease.Associations = nil
	for _, a := range c.lease.Associations {
		a.Delegations = append([]spec.Delegation(nil), a.Delegations...)
		c.said.Lease.Associations = append(c.said.Lease.Associations, a)
	}
	c.report(c.said)
}

// refusedEvery bounds how often it is told that a server lends nothing: whoever is on the link
// may say so, in as many words as he likes.
const refusedEvery = time.Second

// refused reports why an answer lends nothing; final: there is no prefix for now.
func (c *Client) refused(a answer, final bool) {
	now := c.config.Now()
	if now.Sub(c.refusedAt) < refusedEvery && (c.said.Answered || !final) {
		return
	}
	c.refusedAt = now
	c.said.Answered = c.said.Answered || final
	c.said.Error = a.refusal(c.config.IAID)
	c.say(c.said.State)
}

// fail reports what went wrong, without an end to what goes on.
func (c *Client) fail(why string) {
	if c.said.Error != why {
		c.said.Error = why
		c.say(c.said.State)
	}
}

// hold has a lease prolonged until it is lost.
func (c *Client) hold(ctx context.Context) {
	for ctx.Err() == nil {
		if c.lapse(); c.empty() {
			return
		}
		now := c.config.Now()
		renew, rebind := c.due()
		switch {
		case c.moved:
			c.refresh(ctx)
		case isDue(rebind, now):
			c.rebind(ctx)
		case isDue(renew, now):
			c.renew(ctx, rebind)
		default:
			c.say(stateBound)
			c.await(ctx, earliest(renew, rebind, c.expiry()))
		}
	}
}

func isDue(t, now time.Time) bool { return !t.IsZero() && !t.After(now) }

// await waits until t (zero: for ever), or until the link changes.
func (c *Client) await(ctx context.Context, t time.Time) {
	timer := c.newTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c.changed:
		c.moved = true
	case <-timer.C:
	}
}

// lapse reports what has lapsed, if anything has.
func (c *Client) lapse() {
	if c.expire(c.config.Now()) {
		c.said.Error = "the time of a prefix is over, and no server has given it more"
		c.say(c.said.State)
	}
}

// newTimer fires at t, and never where that is zero.
func (c *Client) newTimer(t time.Time) *time.Timer {
	if t.IsZero() {
		return time.NewTimer(1<<63 - 1)
	}
	return time.NewTimer(t.Sub(c.config.Now()))
}

// renew asks the server for more time, until it is time to ask any (§18.2.4).
func (c *Client) renew(ctx context.Context, rebind time.Time) {
	c.say(stateRenewing)
	t := timing{initial: renewTimeout, most: renewMost}
	if !rebind.IsZero() {
		t.total = max(rebind.Sub(c.config.Now()), time.Millisecond) // zero were no bound
	}
	_ = c.prolong(ctx, dhcpv6.MessageTypeRenew, t) // noted; hold sees what is due next
}

// rebind asks any server for more time, until there is none left (§18.2.5).
func (c *Client) rebind(ctx context.Context) {
	c.say(stateRebinding)
	_ = c.prolong(ctx, dhcpv6.MessageTypeRebind, timing{initial: renewTimeout, most: renewMost})
}

// refresh asks any server whether what is lent holds on what may be another link
// (§18.2.12). A server may be silent about what it does not know (§18.3.5): without an
// answer it is believed to hold, and asked for anew meanwhile.
func (c *Client) refresh(ctx context.Context) {
	c.moved = false
	c.say(stateRebinding)
	if !c.pause(ctx, upTo(confirmMaxDelay)) {
		return
	}
	if err := c.prolong(ctx, dhcpv6.MessageTypeRebind, refreshTiming); errors.Is(err, errSilent) {
		c.replace(ctx)
	}
}

// pause waits, and takes the link's changes until then for one. It reports whether
// ctx has not ended.
func (c *Client) pause(ctx context.Context, d time.Duration) bool {
	if !sleep(ctx, d) {
		return false
	}
	select {
	case <-c.changed:
	default:
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// prolong is a Renew or Rebind (§18.2.4, §18.2.5, §18.2.10.1).
func (c *Client) prolong(ctx context.Context, kind dhcpv6.MessageType, t timing) error {
	q := question{kind: kind, associations: c.lease.Associations}
	if kind == dhcpv6.MessageTypeRenew {
		q.server = c.lease.Server
	}
	var stranger *answer // of a server that knows nothing of the lease
	err := c.exchange(ctx, q, t, func(a answer) bool {
		if !a.reply || kind == dhcpv6.MessageTypeRenew && string(a.server) != string(c.lease.Server) {
			return false
		}
		if c.extend(a, c.config.Now()) {
			if stranger = nil; c.unknownTo(a) { // some of it
				stranger = &a
			}
			return true
		}
		if c.unknownTo(a) {
			stranger = &a
			// Another server may know it, but in a Renew no other is asked.
			return kind == dhcpv6.MessageTypeRenew
		}
		c.refused(a, false)
		return false
	}, func() bool { return stranger != nil })
	if err == nil && stranger != nil {
		// NoBinding: it is to be asked for anew there (§18.2.10.1).
		if !c.request(ctx, stranger.server, c.lease.Associations) {
			c.postpone(c.config.Now().Add(leastPause))
		}
	}
	c.note(err)
	return err
}

// note takes down how an exchange has ended.
func (c *Client) note(err error) {
	switch {
	case errors.Is(err, errMoved):
		c.moved = true
	case errors.Is(err, errSilent):
		if c.said.Error == "" {
			c.fail(fmt.Sprintf("no DHCPv6 server on %s answers", c.config.Link))
		}
	}
}
