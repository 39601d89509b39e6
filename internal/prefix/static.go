package prefix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

// static takes the prefix that the user named, or says what is in its way. What
// the host itself has is in the way of some networks only: of that the pool tells.
func (c *choice) static(ctx context.Context) (spec.Pool, error) {
	p := c.req.Prefix.Masked()
	for _, used := range c.inUse {
		if used.Overlaps(p) {
			return spec.Pool{}, fmt.Errorf("subnet %s overlaps pool %s, which is in use (v6net status says by whom; v6net forget releases one that nothing uses)", p, used)
		}
	}
	pool := c.pool(p, spec.SourceStatic, "named by --subnet")
	var parent string
	if c.req.V6 {
		var err error
		if parent, err = c.link(ctx); err == nil && parent != "" {
			err = c.placeOnLink(ctx, &pool, parent)
		}
		if err != nil {
			return spec.Pool{}, err
		}
	}
	if pool.Conflict == "" {
		var err error
		if pool.Conflict, err = c.connectedConflict(ctx, p, parent); err != nil {
			return spec.Pool{}, err
		}
	}
	// A shorter route, to the site's /48 say, is how packets for p come here; one
	// as long as p, or longer, is where they go instead of p's network.
	for _, route := range noShorter(c.taken, p.Bits()) {
		if route.Overlaps(p) && !isSubnetRouter(route, p) && pool.Conflict == "" {
			pool.Conflict = fmt.Sprintf("subnet %s overlaps %s, a route or an address of this host", p, route)
		}
	}
	return pool, nil
}

// placeOnLink says so in the pool if it is a part of an on-link prefix of the parent.
func (c *choice) placeOnLink(ctx context.Context, pool *spec.Pool, link string) error {
	onLink, err := c.host.OnLink(ctx, link)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil // no neighbours who would ask for its addresses
	}
	if err != nil {
		return fmt.Errorf("subnet %s: %w", pool.Prefix, err)
	}
	for _, whole := range onLink {
		whole = whole.Masked()
		if whole == pool.Prefix {
			pool.OnLink, pool.Parent = true, link
			pool.Conflict = fmt.Sprintf("subnet %s is the whole on-link prefix of %s: use a part of it, or leave --subnet out to have one found", pool.Prefix, link)
			return nil
		}
		if whole.Bits() < pool.Prefix.Bits() && whole.Overlaps(pool.Prefix) {
			pool.OnLink, pool.Parent = true, link
			pool.Reason += fmt.Sprintf(", part of %s, the on-link prefix of %s", whole, link)
			return nil
		}
	}
	return nil
}

// connectedConflict says behind which link's prefix p lies: the hosts there take
// its addresses for neighbours, and only an IPv6 parent's are answered for. It is
// empty where there is none.
func (c *choice) connectedConflict(ctx context.Context, p netip.Prefix, parent string) (string, error) {
	connected, err := c.host.Connected(ctx, p)
	if err != nil {
		return "", fmt.Errorf("subnet %s: %w", p, err)
	}
	delete(connected, parent)
	links := slices.Sorted(maps.Keys(connected))
	if len(links) == 0 {
		return "", nil
	}
	link := links[0]
	lan := connected[link][0] // one that is the same or a part of it is a route in the way, as any other
	if p.Addr().Is4() {
		return fmt.Sprintf("subnet %s is a part of %s, the network on %s, whose hosts would look for its addresses there", p, lan, link), nil
	}
	return fmt.Sprintf("subnet %s is a part of %s, the on-link prefix of %s, which is not the parent (--ipam-opt parent=%s makes it so)", p, lan, link, link), nil
}

// isSubnetRouter reports whether a route is the subnet-router anycast address
// that p shares with a larger prefix. A forwarding kernel has a route for it, but
// no host may have it (RFC 4291 §2.6.1).
func isSubnetRouter(route, p netip.Prefix) bool {
	return p.Addr().Is6() && route.IsSingleIP() && route.Addr() == p.Addr()
}
