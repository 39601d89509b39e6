package main

import (
	"fmt"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

// end is an address at which a call may begin or end.
type end struct {
	addr    netip.Addr
	network *spec.NetworkStatus // that it is on; nil: on none
}

// callEnds are the addresses between which a call is, each written as an address, or as a
// container's name or the beginning of an ID. A container has several, of which one is
// meant that can call the other: on its network if both are on one, in IPv6 if both have that.
func callEnds(status spec.Status, from, to string) (netip.Addr, netip.Addr, error) {
	froms, err := endsOf(status, from)
	if err != nil {
		return netip.Addr{}, netip.Addr{}, err
	}
	tos, err := endsOf(status, to)
	if err != nil {
		return netip.Addr{}, netip.Addr{}, err
	}
	var beside, apart [][2]end
	for _, six := range []bool{true, false} {
		for _, a := range froms {
			for _, b := range tos {
				switch {
				case a.addr.Is6() != six || b.addr.Is6() != six:
				case a.network != nil && a.network == b.network:
					beside = append(beside, [2]end{a, b})
				default:
					apart = append(apart, [2]end{a, b})
				}
			}
		}
	}
	switch {
	case len(beside) > 0:
		return beside[0][0].addr, beside[0][1].addr, nil
	case len(apart) == 0:
		return netip.Addr{}, netip.Addr{}, usageError{fmt.Errorf("%s and %s have no addresses of one family", from, to)}
	}
	for i, written := range []string{from, to} {
		for _, pair := range apart {
			if pair[i].network != apart[0][i].network {
				return netip.Addr{}, netip.Addr{}, usageError{fmt.Errorf("%s is on more than one network: write which of its addresses is meant (see them with `v6net status`)", written)}
			}
		}
	}
	a, b := apart[0][0], apart[0][1]
	if b.network != nil { // whoever is elsewhere knows it by the address outside
		if out, ok := b.network.Translation().Out(b.addr); ok && !isAddress(to) {
			b.addr = out
		}
	}
	return a.addr, b.addr, nil
}

func isAddress(written string) bool {
	_, err := netip.ParseAddr(written)
	return err == nil
}

// endsOf are the addresses that are meant by what was written.
func endsOf(status spec.Status, written string) ([]end, error) {
	if addr, err := netip.ParseAddr(written); err == nil {
		return []end{{addr, networkAt(status, addr)}}, nil
	}
	_, found := find(written, attachments(status), attachmentNames)
	switch {
	case len(found) == 0:
		return nil, notFound{fmt.Errorf("%q is no IP address, nor the name or the beginning of the ID of a container on a network of v6net's (see them with `v6net status`)", written)}
	case !sameHolder(found):
		return nil, ambiguous("container", written)
	}
	var ends []end
	for _, a := range found {
		for _, addr := range a.network.AddressesOf(a.Endpoint) {
			ends = append(ends, end{addr, networkAt(status, addr)})
		}
	}
	return ends, nil
}

// networkAt is the network in whose prefixes an address is now; nil: in none's.
func networkAt(status spec.Status, addr netip.Addr) *spec.NetworkStatus {
	for i, n := range status.Networks {
		for _, s := range n.PresentSubnets() {
			if s.Prefix.Contains(addr) {
				return &status.Networks[i]
			}
		}
	}
	return nil
}
