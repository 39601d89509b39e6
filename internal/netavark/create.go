package netavark

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/v6net/v6net/internal/spec"
)

// IPAM drivers in a network's ipam_options. With a name that Podman does not know it
// allocates no address by itself.
const (
	ipamKey       = "driver"
	ipamOurs      = "v6net"
	ipamHostLocal = "host-local" // Podman allocates, and v6net takes what it says
	// ipamNoGateway lists the subnets that were made without a gateway. Podman fills
	// in their first addresses, which nobody has named.
	ipamNoGateway = "no_gateway"
)

// create has the daemon make the network, and answers it with what was chosen.
func (p *Plugin) create(ctx context.Context, n network) (any, error) {
	var err error
	if n.Options, err = withLabels(n.Options, n.Labels); err != nil {
		return nil, err
	}
	o, err := parseOptions(n.Options)
	if err != nil {
		return nil, err
	}
	if o, err = withInterface(&n, o); err != nil {
		return nil, err
	}
	if err := p.check(n, o); err != nil {
		return nil, err
	}
	switch driver := n.IPAM[ipamKey]; driver {
	case "", ipamOurs:
		n.IPAM = map[string]string{ipamKey: ipamOurs}
	case ipamHostLocal:
		n.IPAM = map[string]string{ipamKey: ipamHostLocal}
	default:
		return nil, fmt.Errorf("--ipam-driver %s: v6net itself gives containers their addresses (leave it out, or use host-local for Podman's)", driver)
	}
	request, err := networkRequest(n, o)
	if err != nil {
		return nil, err
	}
	if len(request.IPv4) == 0 && wantsIPv4(n, o) {
		pool, err := spec.ParsePoolRequest(false, "", "", nil)
		if err != nil {
			return nil, err
		}
		request.IPv4 = []spec.SubnetRequest{{Pool: pool, NoGateway: noGateway(o)}}
	}
	daemon, err := p.Daemon()
	if err != nil {
		return nil, err
	}
	made, err := daemon.MakeNetwork(ctx, request)
	if err != nil {
		return nil, err
	}
	return created(n, o, made)
}

// withInterface has the option that `podman network create --interface-name` means:
// for Podman's own drivers, and so here, it is the bridge's name or the parent.
func withInterface(n *network, o options) (options, error) {
	var name string
	if text, given := n.rest[interfaceKey]; given {
		if err := json.Unmarshal(text, &name); err != nil {
			return o, fmt.Errorf("--interface-name: %w", err)
		}
	}
	if name == "" {
		return o, nil
	}
	key, chosen := "com.docker.network.bridge.name", o.network.BridgeName
	if o.network.Mode != spec.ModeBridge {
		key, chosen = "parent", o.network.Parent
	}
	if chosen != "" && chosen != name {
		return o, fmt.Errorf("option %s=%s and --interface-name %s: only one can be meant", key, chosen, name)
	}
	if chosen != "" {
		return o, nil
	}
	n.Options[key] = name
	return parseOptions(n.Options)
}

// check refuses what no container could have later, or what Podman would refuse only
// when the network is made.
func (p *Plugin) check(n network, o options) error {
	switch {
	case o.dns && o.network.Mode != spec.ModeBridge:
		return fmt.Errorf("option dns=on: with mode=%s this host has no address on the network, on which names could be asked for (use mode=bridge, or leave dns=on out)", o.network.Mode)
	case o.dns:
		if err := p.Names.Check(); err != nil {
			return err
		}
	case len(n.DNSServers) > 0:
		return fmt.Errorf("--dns %s: without -o dns=on the network has no name server that could ask it (add -o dns=on, or use podman run --dns)", n.DNSServers[0])
	}
	for _, r := range n.Routes {
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

// check refuses routes that are not by a gateway.
func (r route) check() error {
	switch {
	case r.Type != "" && r.Type != "unicast":
		return fmt.Errorf("route to %s: type %s is not known (allowed: unicast)", r.Destination, r.Type)
	case r.Gateway == nil:
		return fmt.Errorf("route to %s: it has no gateway", r.Destination)
	}
	return nil
}

// wantsIPv4: a network is dual-stack, unless it is told otherwise or, as Podman's
// own, is given an IPv6 subnet without --ipv6.
func wantsIPv4(n network, o options) bool {
	if o.ipv4 != "" {
		return o.ipv4 == "on"
	}
	return n.IPv6Enabled || len(n.Subnets) == 0
}

// noGateway: on a parent the gateway is the upstream router.
func noGateway(o options) bool { return o.network.Mode != spec.ModeBridge }

// networkRequest is what the daemon is asked for, the subnets as they are given and
// an IPv6 one in any case.
func networkRequest(n network, o options) (spec.NetworkRequest, error) {
	r := spec.NetworkRequest{ID: n.ID, Name: n.Name, FrontEnd: FrontEnd, Options: o.network, Internal: n.Internal, Names: o.dns}
	if err := spec.CheckID("network", n.ID); err != nil { // names of links are made of it
		return r, err
	}
	for _, s := range n.Subnets {
		v6 := s.Subnet.Addr().Is6()
		within, err := s.within()
		if err != nil {
			return r, err
		}
		pool, err := spec.ParsePoolRequest(v6, s.Subnet.String(), within, o.named())
		if err != nil {
			return r, err
		}
		request := spec.SubnetRequest{Pool: pool, NoGateway: noGateway(o)}
		if s.Gateway != nil && !n.filledIn(s) {
			request.Gateway = *s.Gateway
		}
		if v6 {
			r.IPv6 = append(r.IPv6, request)
		} else {
			r.IPv4 = append(r.IPv4, request)
		}
	}
	if o.ipv4 == "off" && len(r.IPv4) > 0 {
		return r, fmt.Errorf("option %s=off: the network has subnet %s", optionIPv4, r.IPv4[0].Pool.Prefix)
	}
	if len(r.IPv6) == 0 {
		pool, err := spec.ParsePoolRequest(true, "", "", o.pool)
		if err != nil {
			return r, err
		}
		r.IPv6 = []spec.SubnetRequest{{Pool: pool, NoGateway: noGateway(o)}}
	}
	return r, nil
}

// filledIn reports whether a subnet's gateway is one that Podman has filled in.
func (n network) filledIn(s subnet) bool {
	return slices.Contains(strings.Fields(n.IPAM[ipamNoGateway]), s.Subnet.Masked().String())
}

// within is the part of the subnet that addresses are leased from, as a prefix;
// empty for all of it. Podman makes a range of --ip-range, from its first address or
// the one after that.
func (s subnet) within() (string, error) {
	if s.Range == nil || s.Range.Start == nil && s.Range.End == nil {
		return "", nil
	}
	whole := netipx.RangeOfPrefix(s.Subnet)
	start, end := whole.From(), whole.To()
	if s.Range.Start != nil {
		start = *s.Range.Start
	}
	if s.Range.End != nil {
		end = *s.Range.End
	}
	for bits := s.Subnet.Bits(); bits <= start.BitLen(); bits++ {
		p, err := start.Prefix(bits)
		if err != nil {
			return "", fmt.Errorf("lease range of subnet %s: %w", s.Subnet, err)
		}
		r := netipx.RangeOfPrefix(p)
		if (start == r.From() || start == r.From().Next()) && (end == r.To() || end == r.To().Prev()) {
			return p.String(), nil
		}
	}
	return "", fmt.Errorf("lease range %s to %s of subnet %s is no prefix (use --ip-range PREFIX)", start, end, s.Subnet)
}

// created is the network as Podman is to keep it.
func created(n network, o options, made spec.Network) (any, error) {
	ranges := map[netip.Prefix]*leaseRange{}
	for _, s := range n.Subnets {
		ranges[s.Subnet.Masked()] = s.Range
	}
	n.Subnets = nil
	var without []string
	for _, s := range made.Subnets() {
		kept := subnet{Subnet: s.Prefix, Range: ranges[s.Prefix]}
		if s.Gateway.IsValid() {
			kept.Gateway = &s.Gateway
		} else {
			without = append(without, s.Prefix.String())
		}
		n.Subnets = append(n.Subnets, kept)
	}
	if len(without) > 0 {
		n.IPAM[ipamNoGateway] = strings.Join(without, " ")
	}
	n.IPv6Enabled = true
	n.DNSEnabled = o.dns
	if bridge := made.Bridge(); bridge != "" {
		name, err := json.Marshal(bridge)
		if err != nil {
			return nil, fmt.Errorf("network's interface: %w", err)
		}
		if n.rest == nil {
			n.rest = map[string]json.RawMessage{}
		}
		n.rest[interfaceKey] = name
	}
	return n, nil
}
