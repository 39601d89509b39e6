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

// LinkLocal is an interface's link-local IPv6 address.
func (h *Host) LinkLocal(t testing.TB, link string) string {
	t.Helper()
	for word := range strings.FieldsSeq(h.Run(t, "ip", "-6", "-o", "address", "show", "dev", link, "scope", "link")) {
		if p, err := netip.ParsePrefix(word); err == nil {
			return p.Addr().String()
		}
	}
	t.Fatalf("%s of %s has no link-local address", link, h.name)
	return ""
}
