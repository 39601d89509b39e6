package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// protocols are those that have ports and can be published.
var protocols = []string{"tcp", "udp", "sctp"}

// Validate says what in a configuration contradicts itself. The error names
// the networks and containers concerned.
func (c Config) Validate() error {
	if _, faults := c.Sound(); len(faults) > 0 {
		return faults[0].Err
	}
	return nil
}

// Fault is what of a network does not go together with itself or with the others.
type Fault struct {
	Network string // its ID
	Err     error
	Closed  bool // the network, by this
}

// Sound is the configuration without what does not validate, and what that is: one
// network that contradicts itself must not keep the rules of all others from being
// made. Of two that want the same the first has it. A port that cannot be published is
// left out alone; what else is wrong closes the network, so that its packets go no
// further than its bridge.
func (c Config) Sound() (Config, []Fault) {
	var faults []Fault
	sound := Config{Networks: make([]Network, 0, len(c.Networks)), Parents: c.Parents, LogGroup: c.LogGroup}
	bridges, ports := map[string]string{}, hostPorts{} // bridges: whose they are
	var claiming []Network
	for _, n := range c.Networks {
		fault := func(err error) { faults = append(faults, Fault{Network: n.ID, Err: err}) }
		if n.Bridge == "" {
			fault(fmt.Errorf("network %s has no bridge", spec.ShortID(n.ID)))
			continue
		}
		if other, taken := bridges[n.Bridge]; taken {
			fault(fmt.Errorf("networks %s and %s both have the bridge %s", spec.ShortID(other), spec.ShortID(n.ID), n.Bridge))
			continue
		}
		bridges[n.Bridge] = n.ID
		err := n.validate()
		if err == nil && len(n.Pools) > 0 && !spec.PlainName(n.Bridge) { // closed it may have any
			err = fmt.Errorf("network %s: its bridge %q has a name that iptables cannot say: make it anew with another one", spec.ShortID(n.ID), n.Bridge)
		}
		if err == nil {
			err = n.besides(claiming)
		}
		if err != nil {
			faults = append(faults, Fault{n.ID, err, true})
			n = n.closed()
		}
		var published []Published
		for _, p := range n.Published {
			err := p.validate()
			if err != nil {
				err = fmt.Errorf("publish %s (network %s): %w", p, spec.ShortID(n.ID), err)
			} else if n.accepts() { // or it publishes nothing
				err = ports.take(n, p)
			}
			if err != nil {
				fault(err)
				continue
			}
			published = append(published, p)
		}
		n.Published = published
		sound.Networks = append(sound.Networks, n)
		if n.claims() {
			claiming = append(claiming, n)
		}
	}
	return sound, faults
}

// closed is the network as one of which nothing is known but its bridge, and what of the
// host nobody but its containers reaches by that, or not even they.
func (n Network) closed() Network {
	return Network{
		ID: n.ID, Bridge: n.Bridge, Internal: true, Isolate: true, ICC: n.ICC, Inbound: spec.InboundNone, Log: n.Log,
		Isolated4: n.Isolated4, Isolated6: n.Isolated6,
		Resolvers: slices.DeleteFunc(slices.Clone(n.Resolvers), func(a netip.Addr) bool { return !isContainers(a) }),
	}
}

// validate says what in a network contradicts itself, its ports left aside.
func (n Network) validate() error {
	for _, p := range slices.Concat(n.Pools, n.Masquerade) {
		if !p.IsValid() {
			return fmt.Errorf("network %s has an invalid pool", spec.ShortID(n.ID))
		}
	}
	for _, p := range n.Autonomous {
		if !p.IsValid() || !p.Addr().Is6() {
			return fmt.Errorf("network %s: hosts make no addresses of pool %v", spec.ShortID(n.ID), p)
		}
	}
	for _, a := range n.Live {
		if !isContainers(a) {
			return fmt.Errorf("network %s: live address %v is no address of a container", spec.ShortID(n.ID), a)
		}
	}
	if n.Outbound4.IsValid() && !n.Outbound4.Is4() || n.Outbound6.IsValid() && (!n.Outbound6.Is6() || !isContainers(n.Outbound6)) {
		return fmt.Errorf("network %s: %v and %v are no IPv4 and IPv6 address to leave under", spec.ShortID(n.ID), n.Outbound4, n.Outbound6)
	}
	for _, t := range n.Translations {
		if err := t.Validate(); err != nil {
			return fmt.Errorf("network %s: %w", spec.ShortID(n.ID), err)
		}
	}
	for _, c := range n.Containers {
		if err := c.validate(); err != nil {
			return fmt.Errorf("network %s: container at port %s: %w", spec.ShortID(n.ID), c.Port, err)
		}
	}
	for _, a := range n.Resolvers {
		if !isContainers(a) {
			return fmt.Errorf("network %s: a name server cannot have the address %v", spec.ShortID(n.ID), a)
		}
	}
	return nil
}

// claims reports whether a network has what must be one network's alone: maps have one value
// for a key. These are pools that leave under addresses of their own, and prefixes outside.
func (n Network) claims() bool {
	return len(n.Translations) > 0 || slices.ContainsFunc(n.Masquerade, func(p netip.Prefix) bool { return n.outboundOf(p).IsValid() })
}

// besides says what of a network's claims cannot be beside those of others.
func (n Network) besides(others []Network) error {
	if !n.claims() {
		return nil
	}
	for _, other := range others {
		for _, p := range n.Masquerade {
			for _, theirs := range other.Masquerade {
				if p.Overlaps(theirs) && n.outboundOf(p).IsValid() && other.outboundOf(theirs).IsValid() {
					return fmt.Errorf("network %s: pool %s overlaps %s, which leaves under another address", spec.ShortID(n.ID), p, theirs)
				}
			}
		}
		for _, t := range n.Translations {
			for _, theirs := range other.Translations {
				if t.Inside.Overlaps(theirs.Inside) || t.Outside.Overlaps(theirs.Outside) {
					return fmt.Errorf("networks %s and %s: prefixes %s and %s, or %s and %s outside, overlap", spec.ShortID(other.ID), spec.ShortID(n.ID), theirs.Inside, t.Inside, theirs.Outside, t.Outside)
				}
			}
		}
	}
	return nil
}

// outboundOf is the host's address under which a pool leaves; zero: any.
func (n Network) outboundOf(pool netip.Prefix) netip.Addr {
	if pool.Addr().Is6() {
		return n.Outbound6
	}
	return n.Outbound4
}

func (c Container) validate() error {
	if !strings.HasPrefix(c.Port, spec.VethPrefix) {
		return fmt.Errorf("its name does not begin with %s, by which ports of containers are known", spec.VethPrefix)
	}
	if hw, err := net.ParseMAC(c.MAC); err != nil || len(hw) != 6 || hw.String() != c.MAC {
		return fmt.Errorf("MAC address %q is not one of Ethernet such as 02:00:5e:10:00:01", c.MAC)
	}
	for _, a := range slices.Concat(c.Addresses, c.Elsewhere) {
		if !isContainers(a) {
			return fmt.Errorf("%v is no address of a container", a)
		}
	}
	return nil
}

// String is a published port as people write it: 192.0.2.1:8080->172.18.0.2:80/tcp.
func (p Published) String() string {
	target := fmt.Sprintf("%s/%s", netip.AddrPortFrom(p.Container, p.Port), p.Protocol)
	if p.HostPort == 0 {
		return target
	}
	return fmt.Sprintf("%s->%s", netip.AddrPortFrom(p.hostAddress(), p.HostPort), target)
}

func (p Published) validate() error {
	switch {
	case !slices.Contains(protocols, p.Protocol):
		return fmt.Errorf("protocol %q (allowed: tcp, udp, sctp)", p.Protocol)
	case !isContainers(p.Container):
		return fmt.Errorf("%v is no address of a container", p.Container)
	case p.Port == 0:
		return fmt.Errorf("port 0")
	case p.HostPort != 0 && p.hostAddress().Is4() != p.Container.Is4():
		return fmt.Errorf("host address and container are of different families")
	case p.HostIP.Is4In6() || p.HostIP.Zone() != "":
		return fmt.Errorf("%v is no address of a host", p.HostIP)
	}
	return nil
}

// isContainers reports whether an address can be a container's.
func isContainers(a netip.Addr) bool { return a.IsValid() && !a.Is4In6() && a.Zone() == "" }

// Collides reports whether p and other ask for the same port of the same host
// address, as bind(2) judges it: every address collides with each.
func (p Published) Collides(other Published) bool {
	return p.HostPort != 0 && p.HostPort == other.HostPort && p.Protocol == other.Protocol &&
		p.Container.Is4() == other.Container.Is4() &&
		(p.everyAddress() || other.everyAddress() || p.HostIP == other.HostIP)
}

// hostPorts are the published ports of the host that are taken, by protocol,
// port and family.
type hostPorts map[hostPort][]publisher

type hostPort struct {
	protocol string
	port     uint16
	is4      bool
}

type publisher struct {
	network   string // its ID
	published Published
}

// take claims a host port, as bind(2) would: every address collides with each.
func (h hostPorts) take(n Network, p Published) error {
	if p.HostPort == 0 {
		return nil
	}
	key := hostPort{p.Protocol, p.HostPort, p.Container.Is4()}
	for _, other := range h[key] {
		o := other.published
		if o == p && other.network == n.ID {
			return nil // said twice, meant once
		}
		if p.Collides(o) {
			return fmt.Errorf("host port %d/%s is published twice: %s (network %s) and %s (network %s)",
				p.HostPort, p.Protocol, o, spec.ShortID(other.network), p, spec.ShortID(n.ID))
		}
	}
	h[key] = append(h[key], publisher{n.ID, p})
	return nil
}
