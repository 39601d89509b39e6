package engine

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/prefix"
	"github.com/v6net/v6net/internal/spec"
)

// Journal is the durable record of what v6net has promised (internal/store).
type Journal interface {
	Load() (spec.State, error)
	GlobalID(make func() ([5]byte, error)) ([5]byte, error)
	// Boot reports whether this boot of the machine is another one than that of which Booted
	// has said last that the kernel is in step with the journal. The first time in a boot it
	// forgets the sysctls: the kernel has started with values of its own.
	Boot(id string) (other bool, err error)
	Booted(id string) error
	PutNetwork(spec.Network) error
	DeleteNetwork(id string) error
	PutEndpoint(spec.Endpoint) error
	// PutAll writes them together or not at all: what is renumbered at a time may be
	// a hundred networks.
	PutAll([]spec.Network, []spec.Pool, []spec.Endpoint) error
	// PutFollowing writes what goes over to links by other names, all or none. The sysctls
	// are all that there are; nil: they stay as they were.
	PutFollowing(networks []spec.Network, pools []spec.Pool, sysctls map[string]string) error
	DeleteEndpoint(id string) error
	PutPool(spec.Pool) error
	DeletePool(id string) error
	PutLease(poolID string, addr netip.Addr) error
	DeleteLease(poolID string, addr netip.Addr) error
	PutSysctl(key, original string) error
	DeleteSysctl(key string) error
	PutAdvertised(...spec.Advertisement) error // all or none
	DeleteAdvertised(link string) error
}

// Clock is the time that the lifetimes of what is lent are kept by (internal/clock).
type Clock interface {
	Now() time.Time
	// Ahead is how far the wall clock is ahead of it.
	Ahead() time.Duration
}

// Links makes and removes the links that v6net owns; all of it is idempotent.
type Links interface {
	EnsureBridge(context.Context, spec.Bridge) error
	EnsureVeth(context.Context, spec.Veth) error
	// EnsureChild makes a macvlan or ipvlan link; EnsureVLAN a VLAN sub-interface,
	// and reports whether it is ours; EnsurePair what PairName is.
	EnsureChild(context.Context, spec.Child) error
	// CheckChild refuses a link that would change others' on the same parent.
	CheckChild(context.Context, spec.Child) error
	EnsureVLAN(ctx context.Context, name string, raise bool) (ours bool, err error)
	EnsurePair(ctx context.Context, networkID string, mtu int) error
	// BlockRA keeps router advertisements from a link, wherever it is moved.
	BlockRA(ctx context.Context, name string) error
	Remove(ctx context.Context, name, alias string) error
	// RemoveElsewhere removes links in the namespaces of containers, of which
	// Elsewhere lists ours.
	RemoveElsewhere(ctx context.Context, alias string) error
	Elsewhere(context.Context) ([]spec.OwnedLink, error)
	Parent(ctx context.Context, name string) (spec.Parent, error)
	Owned(context.Context) ([]spec.OwnedLink, error)
	MTU(ctx context.Context, link string) (int, error)
	ForgetNeighbour(ctx context.Context, link string, addr netip.Addr) error
}

// Sysctls reads and writes settings by slash-separated key, `net/ipv6/…`.
type Sysctls interface {
	Get(ctx context.Context, key string) (string, error)
	Set(ctx context.Context, key, value string) error
	// List names what is below a folder of keys: the links of `net/ipv6/conf`.
	List(ctx context.Context, folder string) ([]string, error)
}

// Firewall puts a ruleset in place in one atomic step, changes elements of the
// one that is in place, or removes every rule of ours.
type Firewall interface {
	Apply(context.Context, firewall.Ruleset) error
	Update(context.Context, []firewall.Change) error
	// UpdateNetworks is Update for networks that come or go: the chains of others are
	// looked at, too.
	UpdateNetworks(context.Context, []firewall.Change) error
	// Counters are those of the ruleset that is in place.
	Counters(context.Context) (firewall.Counters, error)
	Remove(context.Context) error
	// Backend is what keeps the rules: nftables, iptables-nft or iptables-legacy.
	Backend() string
	// CanLog says why denied packets cannot be told; nil: they can.
	CanLog(context.Context) error
	// JudgesPorts reports whether the rules see what a container sends where it comes
	// in, by its port of the bridge.
	JudgesPorts() bool
	// CanName reports whether a rule can be about a bridge of this name.
	CanName(bridge string) bool
	// CanTranslate says why prefixes cannot be translated without state (RFC 6296).
	CanTranslate() error
	// Place is the table and chain, as the host's own commands show them, of one of
	// the ruleset.
	Place(table, chain string, v6 bool) (string, string)
}

// Inspector looks at what the kernel has of rules now, ours and others'.
type Inspector interface {
	// Missing says why the ruleset that was applied last is not there; nil: it is.
	Missing(context.Context) error
	// Obstacles are chains of others that refuse what ours accept.
	Obstacles(context.Context) ([]spec.Obstacle, error)
}

// Denials hear of packets that rules with a log have dropped. What they hear is for
// [Engine.Denied].
type Denials interface {
	// Listen begins to listen, or ends it. Again is no change.
	Listen(on bool) error
}

// Zones tell another firewall of the host's which bridges are ours.
type Zones interface {
	// Keep says all of them, and on which a name server answers. It does not wait.
	Keep(plain, names []string)
}

// Conntrack makes the kernel forget connections that the ruleset no longer
// leads to, or leads elsewhere now. What it no longer knows is judged anew.
type Conntrack interface {
	// Forget ends all connections from or to the addresses.
	Forget(context.Context, []netip.Addr) error
	// ForgetPools ends all connections from or to addresses of the prefixes.
	ForgetPools(context.Context, []netip.Prefix) error
	// ForgetPorts ends the connections to published ports, and no others of the container's.
	ForgetPorts(context.Context, []firewall.Published) error
}

// Host is what can be learned about the machine and the links it is on.
type Host interface {
	prefix.Machine
	// Way is by which link an address is reached now; none: there is no route.
	Way(context.Context, netip.Addr) (spec.Way, error)
	// RALinks are the links whose default route came by router advertisement.
	RALinks(context.Context) ([]string, error)
	// RouterLinks are the links on which a router may yet advertise itself.
	RouterLinks(context.Context) ([]string, error)
	// IsRouterLink reports whether a link is one of those.
	IsRouterLink(ctx context.Context, link string) (bool, error)
	// OthersForward reports whether a bridge that is not ours has an address of
	// the family, so that its containers or machines need the host to forward.
	OthersForward(ctx context.Context, v6 bool) (bool, error)
	// Routers are the next hops of a link's default routes, the best first.
	Routers(ctx context.Context, link string) ([]netip.Addr, error)
	// DefaultLinks are the links of the default routes of both families.
	DefaultLinks(context.Context) ([]string, error)
	// Uplinks are the bridges, not ours, with a network card among their ports.
	Uplinks(context.Context) ([]string, error)
	// Announce tells the hosts behind the ports that addr is now at mac.
	Announce(ctx context.Context, ports []string, addr netip.Addr, mac net.HardwareAddr) error
	// Addresses are the host's own.
	Addresses(context.Context) ([]netip.Addr, error)
	// PortFree reports whether nothing on the host listens on the port.
	PortFree(protocol string, addr netip.Addr, port uint16) error
}

// Proxy answers neighbor solicitations on a parent for live leases (ndproxy).
type Proxy interface {
	Add(link string, addr netip.Addr)
	Remove(link string, addr netip.Addr)
	// AddPrefix answers for every address of a prefix, whoever has it.
	AddPrefix(link string, prefix netip.Prefix)
	RemovePrefix(link string, prefix netip.Prefix)
	LinkChanged(link string)
	Status() []spec.ProxyStatus
	Summary() []spec.ProxyStatus // without addresses
}

// Sources lend prefixes to this host (internal/prefix/sources). Those that they
// lend come and go by Engine.DelegationsChanged.
type Sources interface {
	// Delegated is what the source has lent on the link so far. It starts the source
	// there if it does not run yet, and waits for its first answer until ctx ends.
	// None, and why in the error, if it has none.
	Delegated(ctx context.Context, source spec.Source, link string) ([]spec.Delegation, error)
	// Keep ends every source that is not in the list, and gives back what it has lent.
	Keep([]spec.SourceOnLink)
	// LinkRenamed has the sources on a link go on by its next name, with what they have lent.
	LinkRenamed(from, to string)
	Status() []spec.DelegationStatus
}

// Routes say that what is lent to this host and used by nobody leads nowhere: by
// the default route a packet to it would go back to where it came from (RFC 7084
// WPD-5).
type Routes interface {
	EnsureUnreachable(context.Context, netip.Prefix) error
	RemoveUnreachable(context.Context, netip.Prefix) error
	Unreachable(context.Context) ([]netip.Prefix, error)
}

// Sandboxes are the network namespaces of running containers.
type Sandboxes interface {
	// Readdress gives the link with that alias in a sandbox the addresses, and takes
	// those of gone from it; it is idempotent. The error matches fs.ErrNotExist where
	// the link is not in the sandbox, or the sandbox cannot be seen from here, and
	// fs.ErrPermission where it may not be entered.
	Readdress(ctx context.Context, sandbox, alias string, want []spec.SandboxAddress, gone []netip.Prefix) error
}

// Advertisers advertise the host as a router on links (internal/ra).
type Advertisers interface {
	// Inherit says what an earlier daemon has told a link, before anything is said there.
	Inherit(spec.Advertisement)
	// Advertise says this on its link from now on; the same again is no change.
	Advertise(spec.Advertisement)
	// Withdraw takes back what was said on a link, at once where that may be.
	Withdraw(ctx context.Context, link string)
	// Listen hears the routers of exactly these links, for Status and for the
	// advertisements that name them as upstream.
	Listen(links []string)
	LinkChanged(link string)
	Status() []spec.AdvertiserStatus
}
