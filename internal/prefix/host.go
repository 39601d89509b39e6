package prefix

import (
	"context"
	"net/netip"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// Host is what choosing a prefix needs to know: the machine, and what is lent to it.
type Host interface {
	Machine
	// Delegated is what a source has lent on a link. It may wait for the source's
	// first answer. Where it has lent nothing the error says why; it is
	// spec.ErrNotAvailable where there is nobody who could be asked.
	Delegated(ctx context.Context, source spec.Source, link string) ([]spec.Delegation, error)
	// Now is the time that the lifetimes of what is lent are kept by.
	Now() time.Time
}

// Machine is what can be learned about the machine and its links.
type Machine interface {
	// DefaultParent is the link of the IPv6 default route. An error, or an empty
	// name, means that there is none now.
	DefaultParent(ctx context.Context) (string, error)
	// OnLink lists the IPv6 prefixes that the hosts on a link take for their
	// own, link-local ones left out, the preferred one first. It is an error if
	// there is no such link, and errors.ErrUnsupported if it has no neighbor
	// discovery (PPP, tunnels), so that nobody would have to answer for a part.
	OnLink(ctx context.Context, link string) ([]netip.Prefix, error)
	// Connected lists the prefixes that are directly on links behind which somebody
	// may be and that part is a part of, by the link's name; link-local ones left out.
	Connected(ctx context.Context, part netip.Prefix) (map[string][]netip.Prefix, error)
	// Taken lists the destinations of all routes of the host that overlap a prefix, default
	// routes left out, and its addresses as /128 or /32. Every one counts, also one inside
	// another: an address inside an on-link prefix is what a free part must not have.
	Taken(ctx context.Context, where netip.Prefix) ([]netip.Prefix, error)
	// Probe asks on a link who has the addresses (duplicate address detection,
	// RFC 4862 §5.4) and answers those that somebody has. It takes about a second.
	Probe(ctx context.Context, link string, addrs []netip.Addr) (taken []netip.Addr, err error)
}
