package ipam

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"sync"

	"go4.org/netipx"

	"github.com/v6net/v6net/internal/spec"
)

// RFC 2526 §2: interface identifiers of a /64 that are reserved subnet anycast addresses.
const (
	firstAnycast = 0xfdff_ffff_ffff_ff80
	lastAnycast  = 0xfdff_ffff_ffff_ffff
)

// randomTries is how often a random pool draws anew before it takes the next
// free address instead. A pool three quarters full still finds a uniformly
// random one nine times in ten.
const randomTries = 8

// Pool hands out the addresses of one prefix. It may be used by many goroutines.
type Pool struct {
	prefix netip.Prefix
	within netip.Prefix // Allocate's part of the prefix
	order  spec.Allocation

	// Addresses are counted by their host part, the offset from the prefix's
	// first address, which is at most 64 bits long.
	base        uint64 // low 64 bits of the first address
	end         uint64 // last one that a host may have; the first one is 1
	first, last uint64 // what Allocate may choose from

	mu     sync.Mutex
	leased bitset
	leases int
	cursor uint64 // where sequential allocation goes on
	rand   *rand.Rand
}

// NewPool makes an empty pool of the prefix: /64 to /126 of IPv6, /8 to /30 of
// IPv4. Allocate stays inside within, a part of the prefix; zero means the whole.
func NewPool(prefix, within netip.Prefix, order spec.Allocation) (*Pool, error) {
	var seed [32]byte
	cryptorand.Read(seed[:]) // never fails, says its documentation
	return newPool(prefix, within, order, rand.NewChaCha8(seed))
}

func newPool(prefix, within netip.Prefix, order spec.Allocation, source rand.Source) (*Pool, error) {
	least, most := spec.MinPoolBits6, spec.MaxPoolBits6
	if prefix.Addr().Is4() {
		least, most = spec.MinPoolBits4, spec.MaxPoolBits4
	}
	if prefix.Bits() < least || prefix.Bits() > most {
		return nil, fmt.Errorf("make pool %s: prefix length %d (allowed: %d to %d)", prefix, prefix.Bits(), least, most)
	}
	prefix = prefix.Masked()
	if within == (netip.Prefix{}) {
		within = prefix
	}
	if within.Bits() < prefix.Bits() || !prefix.Contains(within.Addr()) {
		return nil, fmt.Errorf("make pool %s: range %s is not inside it", prefix, within)
	}
	if order != spec.Sequential && order != spec.Random {
		return nil, fmt.Errorf("make pool %s: unknown order of allocation %q", prefix, order)
	}
	p := &Pool{prefix: prefix, within: within.Masked(), order: order, base: low64(prefix.Addr()), rand: rand.New(source)}
	p.end = p.hostPart(netipx.PrefixLastIP(prefix))
	if prefix.Addr().Is4() {
		p.end-- // the broadcast address
	}
	p.first = max(p.hostPart(p.within.Addr()), 1) // 0 is the subnet-router anycast address, or the IPv4 network
	p.last = min(p.hostPart(netipx.PrefixLastIP(p.within)), p.end)
	if p.first > p.last || p.skip(p.first) > p.last {
		return nil, fmt.Errorf("make pool %s: range %s has no address that a host may have", prefix, within)
	}
	p.cursor = p.first
	return p, nil
}

// Prefix is the pool's prefix, masked.
func (p *Pool) Prefix() netip.Prefix { return p.prefix }

// Len is the number of leases.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leases
}

// Allocate leases a free address: in sequence the next one after the last
// allocated, so that a released address rests for as long as it can; at random
// any. Reserved addresses, and RFC 2526's anycast range of a /64, are passed
// over. The error wraps ErrExhausted.
func (p *Pool) Allocate() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n uint64
	var ok bool
	if p.order == spec.Random {
		n, ok = p.findRandom()
	} else if n, ok = p.findFrom(p.cursor); ok {
		p.cursor = n + 1 // may be past the end, also as 0: findFrom wraps
	}
	if !ok {
		if p.within != p.prefix {
			return netip.Addr{}, fmt.Errorf("range %s is %w: %d leases", p.within, ErrExhausted, p.leases)
		}
		return netip.Addr{}, fmt.Errorf("%w: %d leases", ErrExhausted, p.leases)
	}
	p.lease(n)
	return p.addr(n), nil
}

// Reserve leases the address asked for, anywhere in the prefix. It does not move
// the sequence. The error wraps ErrOutside, ErrReserved or ErrTaken.
func (p *Pool) Reserve(a netip.Addr) error {
	if !p.prefix.Contains(a) {
		return refuse(a, ErrOutside)
	}
	n := p.hostPart(a)
	if n < 1 || n > p.end {
		return refuse(a, fmt.Errorf("%w: it is %s", ErrReserved, p.reserved(n)))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leased.has(n) {
		return refuse(a, ErrTaken)
	}
	p.lease(n)
	return nil
}

// Release ends the address's lease and reports whether there was one.
func (p *Pool) Release(a netip.Addr) bool {
	if !p.prefix.Contains(a) {
		return false
	}
	n := p.hostPart(a)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leased.has(n) {
		return false
	}
	p.leased.remove(n)
	p.leases--
	if p.leases == 0 {
		p.leased = bitset{} // a map never shrinks by itself
	}
	return true
}

// Leased reports whether the address is leased.
func (p *Pool) Leased(a netip.Addr) bool {
	if !p.prefix.Contains(a) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leased.has(p.hostPart(a))
}

// All goes through the addresses that are leased when the loop starts, in
// ascending order. The pool may be used inside the loop.
func (p *Pool) All() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		p.mu.Lock()
		leases := p.leased.sorted()
		p.mu.Unlock()
		for _, n := range leases {
			if !yield(p.addr(n)) {
				return
			}
		}
	}
}

func (p *Pool) lease(n uint64) {
	p.leased.add(n)
	p.leases++
}

func refuse(a netip.Addr, why error) error { return fmt.Errorf("address %s is %w", a, why) }

// reserved says what an address is that no host may have.
func (p *Pool) reserved(n uint64) string {
	switch {
	case p.prefix.Addr().Is6():
		return "the subnet-router anycast address (RFC 4291 §2.6.1)"
	case n == 0:
		return "the network's own address"
	default:
		return "the broadcast address"
	}
}

func (p *Pool) findRandom() (uint64, bool) {
	var n uint64
	for range randomTries {
		// No overflow: first is at least 1 where last is all ones.
		n = p.first + p.rand.Uint64N(p.last-p.first+1)
		if !p.leased.has(n) && p.skip(n) == n {
			return n, true
		}
	}
	return p.findFrom(n)
}

// findFrom is the first free host part at n or after it, then from the start.
func (p *Pool) findFrom(n uint64) (uint64, bool) {
	n = max(n, p.first)
	if free, ok := p.nextFree(n, p.last); ok {
		return free, true
	}
	return p.nextFree(p.first, min(n, p.last))
}

func (p *Pool) nextFree(from, to uint64) (uint64, bool) {
	n, ok := p.leased.next(from, to)
	if !ok || p.skip(n) == n {
		return n, ok
	}
	return p.leased.next(p.skip(n), to)
}

// skip is n, or the first host part after the anycast range that n is in.
func (p *Pool) skip(n uint64) uint64 {
	if p.prefix.Bits() == 64 && n >= firstAnycast && n <= lastAnycast {
		return lastAnycast + 1
	}
	return n
}

func (p *Pool) hostPart(a netip.Addr) uint64 { return low64(a) - p.base }

func (p *Pool) addr(n uint64) netip.Addr {
	if p.prefix.Addr().Is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(p.base+n))
		return netip.AddrFrom4(b)
	}
	b := p.prefix.Addr().As16()
	binary.BigEndian.PutUint64(b[8:], p.base+n)
	return netip.AddrFrom16(b)
}

// low64 is the last 64 bits of an address.
func low64(a netip.Addr) uint64 {
	b := a.As16()
	return binary.BigEndian.Uint64(b[8:])
}
