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

	lease spec.DelegationLease // of Run's goroutine
}

const (
	// Metadata tell nobody when they change: a prefix may be assigned at any time.
	readAgain = 10 * time.Minute
	// After a failure it is tried again sooner, and then less and less often.
	leastRetry = 5 * time.Second

	stateUnknown  = "no cloud"
	stateAssigned = "assigned"
	stateNone     = "none assigned"
	stateRetry    = "metadata unreachable"
)

// New makes a Source, which begins with Run.
func New(config Config) *Source {
	s := &Source{config: config, client: newClient(), wake: make(chan struct{}, 1), lease: config.Lease}
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

// Release does nothing: what a cloud has assigned stays so.
func (s *Source) Release(context.Context) error { return nil }

// Run reads metadata again and again until ctx ends, and reports what they say.
func (s *Source) Run(ctx context.Context, report func(spec.DelegationReport)) {
	retry := leastRetry
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
		wait := readAgain
		if state == stateRetry {
			wait, retry = retry, min(2*retry, readAgain)
		} else {
			retry = leastRetry
		}
		s.pause(ctx, wait, state == stateUnknown)
	}
}

// pause waits, where there is nothing to be read for ever.
func (s *Source) pause(ctx context.Context, d time.Duration, forever bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	again := timer.C
	if forever {
		again = nil
	}
	select {
	case <-ctx.Done():
	case <-again:
	case <-s.wake:
	}
}

// read asks the metadata once, and takes over what they say.
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
	case errors.Is(err, errNone):
		s.lease.Associations = nil
		return stateNone, fmt.Errorf("%s: %w", v.name, err)
	case err != nil:
		return stateRetry, fmt.Errorf("%s: %w", v.name, err)
	}
	s.lease.Associations = []spec.Association{{Delegations: s.delegations(v, prefixes)}}
	return stateAssigned, nil
}

func (s *Source) delegations(v vendor, prefixes []netip.Prefix) []spec.Delegation {
	origin := v.name + "'s metadata"
	if v.delivery == unsaid {
		origin += ", which do not say how it is delivered: solicitations for it are answered in case it is on-link"
	}
	list := make([]spec.Delegation, 0, len(prefixes))
	for _, p := range prefixes {
		list = append(list, spec.Delegation{
			Source: spec.SourceCloud, Parent: s.config.Link, Prefix: p,
			OnLink: v.delivery != routed, Origin: origin,
		})
	}
	return list
}
