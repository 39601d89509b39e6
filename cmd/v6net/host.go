package main

import (
	"context"
	"net"
	"net/netip"

	"github.com/v6net/v6net/internal/kernel/icmp6"
	"github.com/v6net/v6net/internal/kernel/link"
	"github.com/v6net/v6net/internal/kernel/port"
	"github.com/v6net/v6net/internal/kernel/route"
	"github.com/v6net/v6net/ndproxy"
)

// host is the engine's view of the machine: routes, neighbours and ports.
type host struct{ *route.Handle }

// Probe is duplicate address detection on a link.
func (host) Probe(ctx context.Context, link string, addrs []netip.Addr) ([]netip.Addr, error) {
	return icmp6.Probe(ctx, link, addrs)
}

// Announce tells the hosts behind bridge ports where an address is.
func (host) Announce(ctx context.Context, ports []string, addr netip.Addr, mac net.HardwareAddr) error {
	return icmp6.Announce(ctx, ports, addr, mac)
}

// PortFree reports whether a port of the host can be published.
func (host) PortFree(protocol string, addr netip.Addr, p uint16) error {
	return port.Free(protocol, addr, p)
}

// kernelLinks adds to a link handle what the engine asks of a link it does not own.
type kernelLinks struct{ *link.Handle }

// MTU is a link's, in bytes.
func (l kernelLinks) MTU(ctx context.Context, name string) (int, error) {
	info, err := l.Link(ctx, name)
	return info.MTU, err
}

// dialProxy opens a link for the NDP proxy.
func dialProxy(ctx context.Context, link string) (ndproxy.Conn, error) { return icmp6.Dial(ctx, link) }
