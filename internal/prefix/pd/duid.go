package pd

import (
	"crypto/rand"
	"fmt"
)

// NewDUID makes the name of this host to DHCPv6 servers: a DUID-UUID (RFC 6355), so
// that it outlives every network card and is no other client's of the same host.
func NewDUID() ([]byte, error) {
	duid := make([]byte, 2+16)
	if _, err := rand.Read(duid[2:]); err != nil {
		return nil, fmt.Errorf("make a DHCP unique identifier: %w", err)
	}
	duid[1] = 4
	duid[2+6] = duid[2+6]&0x0f | 0x40 // RFC 9562 §5.4: version 4, variant 10
	duid[2+8] = duid[2+8]&0x3f | 0x80
	return duid, nil
}
