package ipam

import "errors"

// What a pool or a prefix may answer. The errors returned wrap one of these, so test them
// with errors.Is. They name the address, and not the pool, which their caller knows.
var (
	// ErrExhausted: every address of the pool, or every part of the prefix, is in use.
	ErrExhausted = errors.New("exhausted")
	// ErrTaken: the address is leased already.
	ErrTaken = errors.New("already leased")
	// ErrOutside: the address is not in the pool's prefix.
	ErrOutside = errors.New("outside the pool")
	// ErrReserved: no host may have the address. It is the subnet-router anycast
	// address (RFC 4291 §2.6.1), or an IPv4 network or broadcast address (RFC 1122 §3.2.1.3).
	ErrReserved = errors.New("reserved")
)
