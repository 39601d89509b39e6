package spec

import (
	"crypto/sha256"
	"net"
	"net/netip"
)

// EndpointMAC is the address of an endpoint whose user asked for none. It
// follows from the network and the IP address, so that an address handed out
// again comes with the same MAC and no neighbour cache goes stale.
func EndpointMAC(networkID string, addr netip.Addr) net.HardwareAddr {
	sum := sha256.Sum256(append([]byte(networkID), addr.AsSlice()...))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^0x01 | 0x02 // unicast, locally administered (IEEE 802 §8.2)
	return mac
}
