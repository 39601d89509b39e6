package sources

import (
	"context"

	"github.com/v6net/v6net/internal/spec"
)

// A Source lends prefixes on one link.
type Source interface {
	// Run lends until ctx ends, and reports at every change, by one goroutine. What is
	// lent then stays so.
	Run(ctx context.Context, report func(spec.DelegationReport))
	// LinkChanged says that the link came up, or may be another one.
	LinkChanged()
	// AddressesChanged says that the link has other addresses, or other prefixes are on it.
	AddressesChanged()
	// Ask says that somebody waits for an answer, so that one is looked for at once.
	Ask()
	// Release gives back what is lent, after Run.
	Release(ctx context.Context) error
}

// A Starter makes a source for a link. before is what the source has lent there in an
// earlier life, or empty.
type Starter func(link string, before spec.DelegationLease) (Source, error)

// Journal keeps what is lent (internal/store).
type Journal interface {
	PutDelegationLease(spec.DelegationLease) error
	DeleteDelegationLease(spec.SourceOnLink) error
	// MoveDelegationLease writes a lease in place of another one, whose link has another name now.
	MoveDelegationLease(from spec.SourceOnLink, to spec.DelegationLease) error
}

// Changed is told what a source has lent on a link: at every gain, change of lifetimes
// and loss, and once after a start: when the source has first answered, or goes on with
// what is lent from before. None means that all of it is lost. Calls for one source and link come one after another, beside
// everything else, so that they may take their time; of changes meanwhile the last counts.
// What [Supervisor.Keep] ends is not told.
type Changed func(ctx context.Context, source spec.Source, link string, lent []spec.Delegation)
