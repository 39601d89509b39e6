package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/v6net/v6net/internal/kernel/icmp6"
	"github.com/v6net/v6net/internal/kernel/link"
	"github.com/v6net/v6net/internal/kernel/port"
	"github.com/v6net/v6net/internal/kernel/raguard"
	"github.com/v6net/v6net/internal/kernel/route"
	"github.com/v6net/v6net/internal/ra"
	"github.com/v6net/v6net/internal/spec"
)

// host is the engine's view of the machine: routes, links, neighbours and ports.
type host struct {
	*route.Handle
	*icmp6.Announcer
	links *link.Handle
}

// RouterLinks are the links on which a router may be.
func (h host) RouterLinks(ctx context.Context) ([]string, error) { return h.links.RouterLinks(ctx) }

// Uplinks are bridges by which packets leave this host.
func (h host) Uplinks(ctx context.Context) ([]string, error) { return h.links.Uplinks(ctx) }

// IsRouterLink reports whether a router may be on a link.
func (h host) IsRouterLink(ctx context.Context, link string) (bool, error) {
	return h.links.IsRouterLink(ctx, link)
}

// OthersForward reports whether another's bridge has an address of the family.
func (h host) OthersForward(ctx context.Context, v6 bool) (bool, error) {
	return h.links.ForeignBridgeHas(ctx, v6)
}

// Probe is duplicate address detection on a link.
func (host) Probe(ctx context.Context, link string, addrs []netip.Addr) ([]netip.Addr, error) {
	return icmp6.Probe(ctx, link, addrs)
}

// Addresses are the host's own.
func (host) Addresses(context.Context) ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			addrs = append(addrs, p.Addr().WithZone("").Unmap())
		}
	}
	return addrs, nil
}

// PortFree reports whether a port of the host can be published.
func (host) PortFree(protocol string, addr netip.Addr, p uint16) error {
	return port.Free(protocol, addr, p)
}

// kernelLinks adds to a link handle what the engine asks of links beyond their making.
type kernelLinks struct {
	*link.Handle
	guard *raguard.Guard
	ports *portGuard
}

// EnsureVeth is the handle's, and guards the host's end where that is asked for.
func (l kernelLinks) EnsureVeth(ctx context.Context, want spec.Veth) error {
	if err := l.Handle.EnsureVeth(ctx, want); err != nil || !want.Guarded {
		return err
	}
	return l.ports.ensure(ctx, want)
}

// portGuard keeps containers from posing as routers and DHCP servers before their
// neighbours, where the firewall does not judge what a bridge's ports receive.
type portGuard struct {
	log   *slog.Logger
	guard raguard.Guard
	warn  sync.Once
}

// ensure guards a port. That a kernel is too old for it leaves the container as it was
// before there were guards.
func (g *portGuard) ensure(ctx context.Context, port spec.Veth) error {
	if port.Judged {
		return g.guard.Detach(ctx, port.Name) // that of a daemon whose firewall did not
	}
	err := g.guard.Attach(ctx, port.Name)
	if errors.Is(err, raguard.ErrUnsupported) {
		g.warn.Do(func() {
			g.log.Warn("firewall: nothing at the ports of bridges keeps containers from sending router advertisements and DHCP servers' messages to their neighbours", "err", err)
		})
		return nil
	}
	return err
}

// MTU is a link's, in bytes.
func (l kernelLinks) MTU(ctx context.Context, name string) (int, error) {
	info, err := l.Link(ctx, name)
	return info.MTU, err
}

// BlockRA keeps router advertisements from a link.
func (l kernelLinks) BlockRA(ctx context.Context, name string) error {
	return l.guard.Attach(ctx, name)
}

// dialRouter opens a link for router advertisements.
func dialRouter(ctx context.Context, link string, source netip.Addr) (ra.Conn, error) {
	return icmp6.DialRouter(ctx, link, source)
}
