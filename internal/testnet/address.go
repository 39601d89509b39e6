package testnet

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// AddAddress gives an interface of the host an address, with its prefix length,
// and waits until it is in use: the kernel makes the route of an IPv6 address
// later, in a work queue, even without duplicate address detection
// (net/ipv6/addrconf.c, addrconf_dad_work).
func (h *Host) AddAddress(t testing.TB, address, link string) {
	t.Helper()
	prefix, err := netip.ParsePrefix(address)
	if err != nil {
		t.Fatalf("host %s: %v", h.Name(), err)
	}
	h.Run(t, "ip", "address", "add", address, "dev", link)
	for deadline := time.Now().Add(raiseTimeout); ; time.Sleep(time.Millisecond) {
		if strings.Contains(h.Run(t, "ip", "route", "get", prefix.Addr().String()), "local") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("host %s: %s on %s is not in use after %v", h.Name(), address, link, raiseTimeout)
		}
	}
}
