package facts

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/kernel/icmp6"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/kernel/rtnl"
	"github.com/v6net/v6net/internal/spec"
)

// onLinkTry is a prefix on a parent's own link, to be tried under the address of a
// container that runs: nobody answers for the bridge's.
type onLinkTry struct {
	doctor.OnLink
	sandbox, alias string // where to try, if not on the host itself
}

// onLinkTries are all of those networks that leave under their own addresses.
func onLinkTries(f doctor.Facts) []onLinkTry {
	var tries []onLinkTry
	for _, n := range f.Networks() {
		if n.Internal {
			continue
		}
		for _, s := range n.IPv6 {
			prefix, ok := onLinkPrefix(s)
			if !ok || n.MasqueradesIPv6(s) {
				continue
			}
			try := onLinkTry{OnLink: doctor.OnLink{Network: spec.ShortID(n.ID), Prefix: prefix, Link: n.Parent, OwnMAC: n.Options.Mode == spec.ModeMacvlan}}
			try.Silent = !try.OwnMAC && n.Options.NDProxy == spec.SwitchOff
			if ep, addr, ok := holder(n, prefix); ok {
				try.Address = addr
				if try.OwnMAC {
					try.sandbox, try.alias = ep.Sandbox, spec.EndpointAlias(ep.ID)
				}
			}
			if proxyFails(f, n, try.Address) {
				continue
			}
			if try.Router, ok = routerOn(f, n.Parent); ok && hasNeighbors(f, n.Parent) {
				tries = append(tries, try)
			}
		}
	}
	return tries
}

// proxyFails reports whether the proxy on a network's parent has failed, or another host has the
// address for its own: then no provider is to blame, and other checks say so.
func proxyFails(f doctor.Facts, n spec.NetworkStatus, addr netip.Addr) bool {
	return n.Options.Mode != spec.ModeMacvlan && slices.ContainsFunc(f.Status.Proxies, func(p spec.ProxyStatus) bool {
		return p.Parent == n.Parent && (p.Error != "" || slices.ContainsFunc(p.Conflicts, func(c spec.ProxyConflict) bool { return c.Address == addr }))
	})
}

// onLinkPrefix is a subnet's as the parent's link knows it, if it is on that link.
func onLinkPrefix(s spec.Subnet) (netip.Prefix, bool) {
	if s.Lent != nil {
		now, ok := s.Lent.Current()
		return now.Prefix, ok && now.OnLink
	}
	s = s.FromOutside()
	return s.Prefix, s.OnLink
}

// holder is a container that runs, and its address there.
func holder(n spec.NetworkStatus, prefix netip.Prefix) (spec.Endpoint, netip.Addr, bool) {
	for _, ep := range n.Endpoints {
		if !ep.Joined || ep.Sandbox == "" {
			continue
		}
		for _, a := range n.HasOf(ep) {
			if a = n.Public(a); prefix.Contains(a) {
				return ep, a, true
			}
		}
	}
	return spec.Endpoint{}, netip.Addr{}, false
}

// do tries once.
func (t onLinkTry) do(ctx context.Context) (comes bool, err error) {
	if t.sandbox == "" {
		return icmp6.EchoAs(ctx, t.Link, t.Address, t.Router)
	}
	// From where its MAC address is.
	err = netns.Do(t.sandbox, func() error {
		name, err := linkOf(ctx, t.alias)
		if err == nil {
			comes, err = icmp6.Echo(ctx, name, t.Address, t.Router)
		}
		return err
	})
	return comes, err
}

// linkOf is the name of the link with an alias.
func linkOf(ctx context.Context, alias string) (string, error) {
	links, err := rtnl.Ask(ctx, func(h *netlink.Handle) ([]netlink.Link, error) { return h.LinkList() })
	if err != nil {
		return "", fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Alias == alias {
			return l.Attrs().Name, nil
		}
	}
	return "", fmt.Errorf("link with alias %q: %w", alias, os.ErrNotExist)
}
