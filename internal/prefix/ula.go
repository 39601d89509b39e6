package prefix

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

// RFC 4193 §3.1: fd00::/8, a global ID of 40 bits and a subnet ID of 16 bits.
const (
	ulaSiteBits   = 48
	ulaSubnetBits = 64
)

// NewGlobalID makes a global ID for unique local prefixes: pseudo-random as RFC
// 4193 §3.2 demands, from the kernel's generator in place of §3.2.2's hash of
// time and MAC. Make it once for a host and keep it.
func NewGlobalID() ([5]byte, error) {
	var id [5]byte
	if _, err := rand.Read(id[:]); err != nil {
		return id, fmt.Errorf("make a ULA global ID: %w", err)
	}
	return id, nil
}

// ula takes the lowest free subnet of the host's own unique local /48.
func (c *choice) ula(context.Context) (spec.Pool, error) {
	if c.globalID == ([5]byte{}) {
		return spec.Pool{}, errors.New("unique local prefix: this host has no global ID")
	}
	site := site(c.globalID)
	bits := c.req.Bits
	if bits == 0 {
		bits = ulaSubnetBits
	}
	p, err := c.carve(site, bits, site.Bits()+1, nil, 0)
	if errors.Is(err, ipam.ErrExhausted) {
		return spec.Pool{}, none("unique local prefix %w", err)
	}
	if err != nil {
		return spec.Pool{}, err
	}
	return c.pool(p, spec.SourceULA, "unique local prefix made by RFC 4193"), nil
}

// site is the /48 of a global ID.
func site(globalID [5]byte) netip.Prefix {
	a := [16]byte{0xfd}
	copy(a[1:], globalID[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), ulaSiteBits)
}
