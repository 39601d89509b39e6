package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// Facts is what was found out about a host and its networks.
type Facts struct {
	Status   *spec.Status // the daemon's; nil: none answers
	NoDaemon string       // why there is no Status

	NoIPv6       bool // the kernel has no IPv6, or it was started without
	Links        []Link
	Defaults     []Default                // IPv6 default routes of the main table, the best first
	Sysctls      map[string]string        // by path; those that the kernel does not have are absent
	Neighbors    map[string]NeighborTable // by "ipv4" and "ipv6"; absent in other network namespaces than the machine's first
	ProxyEntries []ProxyEntry
	OtherProxies []Process // programs that answer for others' addresses
	Firewall     Firewall
	Missing      []string          // of what was tried, what the kernel cannot make
	Firmware     map[string]string // fields of /sys/class/dmi/id
	Routers      []Router          // that were asked whether they are there
	Returns      []Return          // prefixes of ours that were tried
	OnLinks      []OnLink          // those on a parent's own link
	Engines      []Engine
	Unsynced     bool // the kernel says that nobody keeps the clock right

	Online *Online // nil: nobody was asked

	Unknown []Unknown
}

// Unknown is what could not be found out.
type Unknown struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Link is one of the host's.
type Link struct {
	Name      string
	Kind      string // "bridge", "veth", …; "device" for hardware
	Alias     string
	Up        bool
	Carrier   bool
	MTU       int
	Snooping  bool           // of bridges: multicast is pruned by MLD
	MayRouter bool           // a router may be on it
	Neighbors bool           // nodes on it find each other by neighbor discovery
	Addresses []netip.Prefix // IPv6, usable ones
}

// Default is one IPv6 default route.
type Default struct {
	Link   string
	Router netip.Addr // zero: it has none, as on tunnels
	RA     bool       // by a router advertisement
	Usable bool       // its link is up and has carrier
}

// ProxyEntry is an address for which the kernel itself answers (ip neigh … proxy).
type ProxyEntry struct {
	Link string
	Addr netip.Addr
}

// Process is a program that runs in the host's network namespace.
type Process struct {
	Name string
	PID  int
}

// Firewall is what the host's filters are, ours left aside.
type Firewall struct {
	Ours        bool // v6net's own rules are in place
	Forward     []ForwardChain
	ReversePath []string // chains that drop what comes by another link than answers would take
	Legacy      []string // families of which iptables-legacy filters
}

// ForwardChain is one that judges what the host forwards.
type ForwardChain struct {
	Family  string // ip, ip6 or inet
	Table   string
	Name    string
	Refuses bool // what v6net lets through
	Jumps   bool // it has other chains decide before, which may accept some of that
}

// String names the chain as nft does.
func (c ForwardChain) String() string { return c.Family + " " + c.Table + " " + c.Name }

// Router is a next hop that was asked whether it is there.
type Router struct {
	Link    string
	Addr    netip.Addr
	Answers bool
}

// Return is whether an answer to an address of a network comes back from a router.
type Return struct {
	Network string // its ID
	Address netip.Addr
	Router  netip.Addr
	Link    string
	Comes   bool
	Control bool // an answer to the host's own address comes back from there
}

// OnLink is whether an answer to a container's address in a prefix on the parent's own
// link comes back from a router, which has to find it there.
type OnLink struct {
	Network string // its ID
	Prefix  netip.Prefix
	Address netip.Addr // zero: no container has one there, and nothing was tried
	OwnMAC  bool       // containers have MAC addresses of their own
	Silent  bool       // v6net answers nobody who asks for it: ndproxy=off
	Router  netip.Addr
	Link    string
	Comes   bool
	Control bool // an answer to the host's own address comes back from there
}

// Engine is a container engine of the host.
type Engine struct {
	Name     string // Docker or Podman
	Version  string
	Networks []EngineNetwork
	Online   string // the registry that it takes images from unless told otherwise
}

// EngineNetwork is a network as its engine has it.
type EngineNetwork struct {
	ID   string // which v6net knows its own by, too
	Name string
	Ours bool           // its driver is v6net, which has been told to make it
	IPv6 []netip.Prefix // of its subnets
}

// Online is what was asked of others, by name.
type Online struct {
	Registry string // host or host:port
	NoUplink bool   // nobody was asked: there is no IPv6 default route
	DNS      error
	AAAA     []netip.Addr
	Connect  error     // over IPv6 alone; nil where AAAA is none, too
	Date     time.Time // what the registry says; zero: nothing
	At       time.Time // this host's clock at that moment
}

// link is one by name; ok is false where there is none.
func (f Facts) link(name string) (l Link, ok bool) {
	i := slices.IndexFunc(f.Links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return f.Links[i], true
}

// Networks are those that the daemon knows of.
func (f Facts) Networks() []spec.NetworkStatus {
	if f.Status == nil {
		return nil
	}
	return f.Status.Networks
}

// Parents are the names of the links towards the upstream network: the default
// route's, and those of networks. Where there is neither, those on which a router
// may be and that are up.
func (f Facts) Parents() []string {
	var names []string
	for _, n := range f.Networks() {
		if n.Parent != "" {
			names = append(names, n.Parent)
		}
	}
	if len(f.Defaults) > 0 {
		names = append(names, f.Defaults[0].Link)
	}
	if len(names) == 0 {
		for _, l := range f.Links {
			if l.MayRouter && l.Up {
				names = append(names, l.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// bridges are the links of ours that networks are on. They are there without a
// daemon, too.
func (f Facts) bridges() []Link {
	var ours []Link
	for _, l := range f.Links {
		if l.Kind == "bridge" && strings.HasPrefix(l.Alias, spec.NetworkAlias("")) {
			ours = append(ours, l)
		}
	}
	return ours
}

// forwards reports for which families the host is to forward. Without a daemon it
// is not known which of the bridges' networks are internal, or have IPv4.
func (f Facts) forwards() (v4, v6 bool) {
	for _, n := range f.Networks() {
		if !n.Internal && !n.Options.OnParent() {
			v4, v6 = v4 || len(n.IPv4) > 0, v6 || len(n.IPv6) > 0
		}
	}
	return v4, v6
}

// pools are the prefixes of all networks, as they are now and as they are known outside.
func (f Facts) pools() []netip.Prefix {
	var all []netip.Prefix
	for _, n := range f.Networks() {
		for _, s := range n.IPv6 {
			all = append(all, s.FromOutside().Prefix)
			if s.Lent != nil {
				for _, p := range s.Lent.Prefixes {
					all = append(all, p.Prefix)
				}
			}
		}
	}
	return all
}

func within(pools []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(pools, func(p netip.Prefix) bool { return p.Contains(a) })
}

// network names one for people.
func network(n spec.NetworkStatus) string {
	if n.Name != "" {
		return "network " + n.Name
	}
	return "network " + spec.ShortID(n.ID)
}
