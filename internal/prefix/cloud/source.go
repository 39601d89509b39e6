// Package cloud reads the prefix that a cloud has assigned to this machine from the
// cloud's metadata. What the clouds document is a table; the code is one for all.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// Config is what a Source is made of.
type Config struct {
	Link string
	MAC  func() (string, error) // the link's, as colon-separated hexadecimal
	DMI  fs.FS                  // what the firmware says: /sys/class/dmi/id
	// Listen hears what comes in for prefixes, where a cloud does not say how they are
	// delivered, and Own are the link's own addresses. Nil: nobody listens.
	Listen func(context.Context, []netip.Prefix) (Traffic, error)
	Own    func() []netip.Addr
	// Endpoint stands in for the cloud's own, as http://host; empty: that.
	Endpoint string
	// Lease is what was read before. It holds until metadata say otherwise.
	Lease spec.DelegationLease
}

// A Source reads what is assigned to one link.
type Source struct {
	config Config
	client *http.Client
	wake   chan struct{}

	found chan finding

	// Of Run's goroutine.
	lease    spec.DelegationLease
	doubted  bool // what is held was not named when metadata were last read
	unsaid   bool // the cloud does not say how its prefixes are delivered
	observer *observer
}

const (
	// Metadata tell nobody when they change: a prefix may be assigned at any time.
	readAgain = 10 * time.Minute
	// After a failure it is tried again sooner, and then less and less often.
	leastRetry = 5 * time.Second

	stateUnknown  = "no cloud"
	stateAssigned = "assigned"
	stateNone     = "none assigned"
	stateDoubted  = "not assigned any more, asking again"
	stateRetry    = "metadata unreachable"
)

// New makes a Source, which begins with Run.
func New(config Config) *Source {
	s := &Source{config: config, client: newClient(), wake: make(chan struct{}, 1), found: make(chan finding), lease: config.Lease}
	s.lease.SourceOnLink = spec.SourceOnLink{Source: spec.SourceCloud, Link: config.Link}
	return s
}

// Ask reads the metadata at once.
func (s *Source) Ask() {
	select {
	case s.wake <- struct{}{}:
	default: // it is about to be
	}
}

// LinkChanged says that the link may have another MAC address, or reach metadata now.
func (s *Source) LinkChanged() { s.Ask() }

// AddressesChanged is of no interest: what is assigned is asked of metadata.
func (s *Source) AddressesChanged() {}

// Release does nothing: what a cloud has assigned stays so.
func (s *Source) Release(context.Context) error { return nil }

// Run reads metadata again and again until ctx ends, and reports what they say.
func (s *Source) Run(ctx context.Context, report func(spec.DelegationReport)) {
	retry := leastRetry
	defer func() {
		if s.observer != nil {
			s.observer.end()
		}
	}()
	for ctx.Err() == nil {
		state, err := s.read(ctx)
		if ctx.Err() != nil {
			return
		}
		said := spec.DelegationReport{State: state, Answered: true, Lease: s.lease}
		if err != nil {
			said.Error = err.Error()
		}
		report(said)
		s.observe(ctx)
		wait := readAgain
		switch state {
		case stateRetry:
			wait, retry = retry, min(2*retry, readAgain)
		case stateDoubted:
			wait = leastRetry
		default:
			retry = leastRetry
		}
		s.pause(ctx, wait, state == stateUnknown, func() {
			said.Lease = s.lease
			report(said)
		})
	}
}

// pause waits, where there is nothing to be read for ever. What is found out meanwhile
// is reported.
func (s *Source) pause(ctx context.Context, d time.Duration, forever bool, report func()) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	again := timer.C
	if forever {
		again = nil
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
			return
		case <-s.wake:
			return
		case f := <-s.found:
			s.decide(f)
			report()
		}
	}
}

// read asks the metadata once, and takes over what they say: that there is nothing, where
// something is held, only if they say it twice.
func (s *Source) read(ctx context.Context) (state string, err error) {
	v, ok := recognize(s.config.DMI)
	if !ok {
		s.lease.Associations = nil
		return stateUnknown, errors.New("this machine's firmware names no cloud that v6net knows")
	}
	if v.delivery == address {
		s.lease.Associations = nil
		return stateUnknown, fmt.Errorf("%s assigns no prefixes to a machine: %s", v.name, v.why)
	}
	mac, err := s.config.MAC()
	if err != nil {
		return stateRetry, err
	}
	base := v.endpoint
	if s.config.Endpoint != "" {
		base = s.config.Endpoint
	}
	prefixes, err := v.fetch(ctx, s.client, base, strings.ToLower(mac))
	switch {
	case errors.Is(err, errNone) && !s.doubted && len(s.lease.Delegations()) > 0:
		s.doubted = true
		return stateDoubted, fmt.Errorf("%s: %w", v.name, err)
	case errors.Is(err, errNone):
		s.lease.Associations = nil
		return stateNone, fmt.Errorf("%s: %w", v.name, err)
	case err != nil:
		return stateRetry, fmt.Errorf("%s: %w", v.name, err)
	}
	s.doubted, s.unsaid = false, v.delivery == unsaid
	s.lease.Associations = []spec.Association{{Delegations: s.delegations(v, prefixes)}}
	return stateAssigned, nil
}

func (s *Source) delegations(v vendor, prefixes []netip.Prefix) []spec.Delegation {
	origin := v.name + "'s metadata"
	if v.delivery == unsaid {
		origin += ", which do not say how it is delivered"
	}
	list := make([]spec.Delegation, 0, len(prefixes))
	for _, p := range prefixes {
		d := spec.Delegation{
			Source: spec.SourceCloud, Parent: s.config.Link, Prefix: p,
			OnLink: v.delivery != routed, Origin: origin,
		}
		if before, ok := s.decided(p); ok && v.delivery == unsaid {
			d.OnLink, d.Evidence = before.OnLink, before.Evidence
		}
		list = append(list, d)
	}
	return list
}
