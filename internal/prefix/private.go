package prefix

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

const (
	// privateBits is the length of an IPv4 pool that nobody named.
	privateBits = 24
	// networkBits is the shortest IPv4 route that says where a network is. Shorter
	// ones say which way out is, such as the 0.0.0.0/1 and 128.0.0.0/1 of a VPN.
	networkBits = 8
)

// privateRanges are RFC 1918's, in the order they are used: the one that homes
// and offices use least first.
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("192.168.0.0/16"),
}

// private finds a private IPv4 prefix that nothing of the host overlaps. Where it
// begins is the host's own (RFC 1918 §4): macvlan containers of two hosts are on
// one link, and in IPv4 nobody asks whether an address is taken.
func (c *choice) private(context.Context) (spec.Pool, error) {
	for _, from := range privateRanges {
		p, err := c.carve(from, privateBits, networkBits, nil, c.seed)
		if err == nil {
			return c.pool(p, spec.SourcePrivate, fmt.Sprintf("free part of %s, private addresses of RFC 1918", from)), nil
		}
		if !errors.Is(err, ipam.ErrExhausted) {
			return spec.Pool{}, err
		}
	}
	return spec.Pool{}, fmt.Errorf("private IPv4 addresses are %w: pools, routes and addresses of this host leave no /%d in %v", ipam.ErrExhausted, privateBits, privateRanges)
}
