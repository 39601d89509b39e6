package ndproxy

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// NonceLen is the length of a nonce (RFC 7527 §4.1: at least 6 bytes).
const NonceLen = 6

// Nonces are what one's own probes are told by when a network sends them back
// (RFC 7527). A nonce is not remembered but computed from its target and a
// secret, so that a million probes take no state. The zero Nonces know of none.
type Nonces struct {
	seed maphash.Seed
	made bool
}

// NewNonces makes nonces that no other node knows.
func NewNonces() Nonces { return Nonces{maphash.MakeSeed(), true} }

func (n Nonces) of(target netip.Addr) (nonce [NonceLen]byte) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], maphash.Comparable(n.seed, target))
	copy(nonce[:], b[:])
	return nonce
}

// own reports whether a solicitation's nonce is that of our own probe.
func (n Nonces) own(target netip.Addr, nonce []byte) bool {
	return n.made && len(nonce) == NonceLen && n.of(target) == [NonceLen]byte(nonce)
}
