package cloud

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// Traffic is what comes in on a link for addresses of some prefixes.
type Traffic interface {
	// Next waits for a solicitation for one, or, where packets is set, for any packet to
	// one as well.
	Next(ctx context.Context, packets bool) (to netip.Addr, solicited bool, err error)
	Close() error
}

// quietTime is how long nothing has to be solicited before a packet that comes all the same
// shows that routers need not solicit: many times longer than they believe in a neighbor
// that they have found (RFC 4861 §6.3.2, REACHABLE_TIME: 45 s at the most).
const quietTime = 10 * time.Minute

// A finding is how the packets to prefixes come, by something that has come.
type finding struct {
	onLink bool
	by     netip.Addr // to which it was
}

func (f finding) words() string {
	if f.onLink {
		return fmt.Sprintf("%s was solicited", f.by)
	}
	return fmt.Sprintf("a packet to %s has come, and nothing was solicited in the %s before", f.by, quietTime)
}

// An observer finds out how the packets to prefixes come.
type observer struct {
	prefixes []netip.Prefix
	stop     context.CancelFunc
	done     chan struct{}
}

func (o *observer) end() {
	o.stop()
	<-o.done
}

// observe has what comes in watched while nobody says how it is delivered. That
// something was solicited is the last word; that nothing was may be taken back.
func (s *Source) observe(ctx context.Context) {
	var prefixes []netip.Prefix
	routed := true
	for _, d := range s.lease.Delegations() {
		if s.unsaid && (!d.OnLink || d.Evidence == "") {
			prefixes = append(prefixes, d.Prefix)
			routed = routed && d.Evidence != ""
		}
	}
	if o := s.observer; o != nil {
		select {
		case <-o.done: // its link has gone, say
		default:
			if slices.Equal(o.prefixes, prefixes) {
				return
			}
		}
		o.end()
		s.observer = nil
	}
	if len(prefixes) == 0 || s.config.Listen == nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	o := &observer{prefixes, stop, make(chan struct{})}
	go func() {
		defer close(o.done)
		s.listen(ctx, prefixes, routed)
	}()
	s.observer = o
}

// listen is the observer's goroutine. It ends with a link that cannot be listened on; the
// next reading of the metadata begins another.
func (s *Source) listen(ctx context.Context, prefixes []netip.Prefix, routed bool) {
	traffic, err := s.config.Listen(ctx, prefixes)
	if err != nil {
		return
	}
	defer func() { _ = traffic.Close() }()
	for {
		f, err := s.find(ctx, traffic, routed)
		if err != nil {
			return
		}
		select {
		case s.found <- f:
		case <-ctx.Done():
			return
		}
		if routed = !f.onLink; f.onLink {
			return
		}
	}
}

// find waits for what shows how packets come; where they are routed already, for what
// shows that they are not.
func (s *Source) find(ctx context.Context, traffic Traffic, routed bool) (finding, error) {
	quiet := ctx
	if !routed {
		var cancel context.CancelFunc
		quiet, cancel = context.WithTimeout(ctx, quietTime)
		defer cancel()
	}
	for packets := false; ; {
		to, solicited, err := traffic.Next(quiet, packets)
		switch {
		case err != nil && ctx.Err() == nil && quiet.Err() != nil:
			quiet, packets = ctx, true
		case err != nil:
			return finding{}, err
		case !slices.Contains(s.config.Own(), to): // which this host is asked for in any case
			return finding{onLink: solicited, by: to}, nil
		}
	}
}

// decide takes over a finding.
func (s *Source) decide(f finding) {
	s.lease.Associations = slices.Clone(s.lease.Associations) // reports have the one of before
	for i, a := range s.lease.Associations {
		s.lease.Associations[i].Delegations = slices.Clone(a.Delegations)
		for j := range a.Delegations {
			d := &s.lease.Associations[i].Delegations[j]
			d.OnLink, d.Evidence = f.onLink, f.words()
		}
	}
}

// decided is what was found out of a prefix before.
func (s *Source) decided(p netip.Prefix) (before spec.Delegation, ok bool) {
	for _, d := range s.lease.Delegations() {
		if d.Prefix == p && d.Evidence != "" {
			return d, true
		}
	}
	return spec.Delegation{}, false
}
