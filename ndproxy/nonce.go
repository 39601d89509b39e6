package ndproxy

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// NonceLen is the length of a nonce (RFC 7527 §4.1: at least 6 bytes).
const NonceLen = 6

// Nonces are what one's own probes are told by when a network sends them back
// (RFC 7527). A nonce is not remembered but computed from its target and a
// secret, so that a million probes take no state, and that the fast path, which
// has no other hash, can compute it, too. Secret 0 knows of none.
type Nonces struct{ Secret uint64 }

// NewNonces makes nonces that no other node knows.
func NewNonces() Nonces { return Nonces{rand.Uint64() | 1} }

func (n Nonces) of(target netip.Addr) (nonce [NonceLen]byte) {
	a := target.As16()
	high, low := binary.NativeEndian.Uint64(a[:8]), binary.NativeEndian.Uint64(a[8:])
	h := (low ^ n.Secret) * 0xff51afd7ed558ccd
	h = (h ^ h>>33 ^ high) * 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], h)
	copy(nonce[:], b[:])
	return nonce
}

// own reports whether a solicitation's nonce is that of our own probe.
func (n Nonces) own(target netip.Addr, nonce []byte) bool {
	return n.Secret != 0 && len(nonce) == NonceLen && n.of(target) == [NonceLen]byte(nonce)
}
