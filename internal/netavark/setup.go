package netavark

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// metric is that of the default route by a container's first network, as with
// Podman's own; that of the next is one more, and so on. All are there, so that the
// next network takes over when the first is disconnected.
const metric = 100

// dnsDomain is what Podman appends to names of containers.
const dnsDomain = "dns.podman"

// endpointID is the same for every call about a container on a network.
func endpointID(c call) string {
	sum := sha256.Sum256([]byte("netavark " + c.Network.ID + " " + c.ContainerID))
	return hex.EncodeToString(sum[:])
}

// setup attaches a container. What fails takes itself back: netavark tears down the
// container's other networks then, but not this one.
func (p *Plugin) setup(ctx context.Context, c call, sandbox string) (answer any, err error) {
	o, err := parseOptions(c.Network.Options)
	if err != nil {
		return nil, err
	}
	request, err := attachRequest(c, o, sandbox)
	if err != nil {
		return nil, err
	}
	daemon, err := p.Daemon()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.undo(ctx, daemon, c))
		}
	}()
	attached, err := daemon.Attach(ctx, request)
	if err != nil {
		return nil, err
	}
	link, err := linkOf(c, attached)
	if err != nil {
		return nil, err
	}
	mac, err := p.Sandbox.Furnish(ctx, sandbox, link)
	if err != nil {
		return nil, err
	}
	status := statusOf(c, attached, mac)
	if o.dns {
		if err := p.Names.Add(ctx, namedNetwork(c.Network, attached), namedContainer(c, attached)); err != nil {
			return nil, err
		}
		// Podman gives these to the container in place of --dns.
		status.DNSServers, status.DNSDomains = attached.Servers, []string{dnsDomain}
	}
	return status, nil
}

// undo takes a setup back that failed, though its time may be up.
func (p *Plugin) undo(ctx context.Context, daemon Daemon, c call) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := p.release(ctx, daemon, c); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	return nil
}

// teardown detaches a container. One that is not attached is no error, and neither
// its network namespace nor the network's options matter, whatever has become of them.
func (p *Plugin) teardown(ctx context.Context, c call) error {
	daemon, err := p.Daemon()
	if err != nil {
		return err
	}
	return p.release(ctx, daemon, c)
}

func (p *Plugin) release(ctx context.Context, daemon Daemon, c call) error {
	errs := []error{p.Names.Remove(ctx, c.Network.Name, c.ContainerID)}
	if err := daemon.Detach(ctx, c.Network.ID, endpointID(c)); !errors.Is(err, spec.ErrNotFound) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// attachRequest is what the daemon is asked for.
func attachRequest(c call, o options, sandbox string) (spec.AttachRequest, error) {
	r := spec.AttachRequest{
		ID: endpointID(c), Container: c.ContainerID, Name: c.ContainerName,
		Interface: c.Options.Interface, Sandbox: sandbox, Addresses: staticAddresses(c), MAC: strings.ToLower(c.Options.StaticMAC),
	}
	if r.Interface == "" {
		return r, errors.New("the call names no interface (network_options.interface_name)")
	}
	for key := range c.Options.Options {
		return r, fmt.Errorf("unknown option %q of the container on network %s (known: none)", key, c.Network.Name)
	}
	// The prefix has been found, if the user left that to v6net.
	for _, done := range []string{"source", "prefix_length", "fallback"} {
		delete(o.pool, done)
	}
	var err error
	if r.Network, err = networkRequest(c.Network, o); err != nil {
		return r, err
	}
	r.Ports, err = ports(c.PortMappings)
	return r, err
}

// staticAddresses are those asked for, each once: `podman network reload` asks for
// what its user did, and for what the container had.
func staticAddresses(c call) []netip.Addr {
	var all []netip.Addr
	for _, a := range c.Options.StaticIPs {
		all = append(all, a.Unmap())
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// ports are the published ports, one by one.
func ports(mappings []portMapping) ([]spec.Port, error) {
	var all []spec.Port
	for _, m := range mappings {
		var host netip.Addr
		if m.HostIP != "" {
			a, err := netip.ParseAddr(m.HostIP)
			if err != nil || a.Zone() != "" {
				return nil, fmt.Errorf("published port %d: host address %q is no IP address", m.ContainerPort, m.HostIP)
			}
			host = a.Unmap()
		}
		count := int(max(m.Range, 1))
		if m.ContainerPort == 0 || int(m.ContainerPort)+count > 1<<16 || int(m.HostPort)+count > 1<<16 {
			return nil, fmt.Errorf("published ports %d of the host to %d of the container, %d of them: there are no such ports", m.HostPort, m.ContainerPort, count)
		}
		for _, protocol := range strings.Split(m.Protocol, ",") {
			if protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
				return nil, fmt.Errorf("published port %d: protocol %q is not one of tcp, udp, sctp", m.ContainerPort, protocol)
			}
			for i := range uint16(count) {
				p := spec.Port{Protocol: protocol, Port: m.ContainerPort + i, HostIP: host}
				if m.HostPort != 0 {
					p.HostPort = m.HostPort + i
				}
				all = append(all, p)
			}
		}
	}
	return all, nil
}

// linkOf is what is to be done in the container.
func linkOf(c call, a spec.Attached) (Link, error) {
	l := Link{
		Name: a.Attachment.Interface, Alias: spec.EndpointAlias(a.Endpoint.ID), Rename: c.Options.Interface,
	}
	for _, p := range a.Attachment.Routes {
		if p.Bits() == 0 { // one of several networks' default routes, as those by gateways
			l.Routes = append(l.Routes, Route{Destination: p, Metric: metric + a.Endpoint.Rank})
		} else {
			l.OnLink = append(l.OnLink, p)
		}
	}
	for _, p := range []netip.Prefix{a.Endpoint.IPv6, a.Endpoint.IPv4} {
		if p.IsValid() {
			l.Addresses = append(l.Addresses, p)
		}
	}
	for _, gateway := range []netip.Addr{a.Attachment.Gateway6, a.Attachment.Gateway4} {
		if gateway.IsValid() {
			l.Routes = append(l.Routes, Route{Destination: spec.Everywhere(gateway.Is6()), Gateway: gateway, Metric: metric + a.Endpoint.Rank})
		}
	}
	for _, r := range c.Network.Routes { // --route
		if err := r.check(); err != nil {
			return l, err
		}
		own := Route{Destination: r.Destination, Gateway: *r.Gateway, Metric: metric + a.Endpoint.Rank}
		if r.Metric != nil {
			own.Metric = *r.Metric
		}
		l.Routes = append(l.Routes, own)
	}
	return l, nil
}

// statusOf is what Podman remembers, and shows in `podman inspect`.
func statusOf(c call, a spec.Attached, mac string) statusBlock {
	s := statusInterface{MAC: mac}
	for _, family := range []struct {
		address netip.Prefix
		gateway netip.Addr
	}{{a.Endpoint.IPv6, a.Attachment.Gateway6}, {a.Endpoint.IPv4, a.Attachment.Gateway4}} {
		if !family.address.IsValid() {
			continue
		}
		on := statusSubnet{Address: family.address}
		if family.gateway.IsValid() {
			on.Gateway = &family.gateway
		}
		s.Subnets = append(s.Subnets, on)
	}
	return statusBlock{Interfaces: map[string]statusInterface{c.Options.Interface: s}}
}

func namedNetwork(n network, a spec.Attached) NamedNetwork {
	return NamedNetwork{Name: n.Name, Internal: n.Internal, Servers: a.Servers, Forward: n.DNSServers}
}

// namedContainer has the container's name, its aliases and, as one of those, the
// beginning of its ID.
func namedContainer(c call, a spec.Attached) NamedContainer {
	names := append([]string{c.ContainerName}, c.Options.Aliases...)
	slices.Sort(names[1:])
	return NamedContainer{ID: c.ContainerID, Names: slices.Compact(names), Addresses: a.Endpoint.Addresses()}
}
