package pd

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// ParseDUID reads a DUID that a provider knows this host by: hexadecimal digits, with or
// without colons.
func ParseDUID(text string) ([]byte, error) {
	duid, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(duid) < leastDUID || len(duid) > mostDUID {
		return nil, fmt.Errorf("%q is no DUID (allowed: %d to %d bytes in hexadecimal, as in 00:03:00:01:02:00:5e:10:00:01)", text, leastDUID, mostDUID)
	}
	return duid, nil
}

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
