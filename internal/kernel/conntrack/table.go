// Package conntrack makes the kernel forget connections that rules no longer
// lead to: a client that keeps its source port would else go on to where its
// first packet was translated, for as long as it sends (moby#8795), and what
// was let in once would be let in for ever.
package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/nlattr"
)

// Table is the connection tracking table of the calling thread's network
// namespace. A kernel without one, or without its netlink interface, has
// nothing to forget: that is no error.
type Table struct {
	turn sync.Mutex // held while the table is read
	mu   sync.Mutex
	next *batch // of those who wait for their turn
}

// batch is what several callers have forgotten at once.
type batch struct {
	addrs []netip.Addr
	done  chan struct{}
	err   error
}

// Forget ends every connection from or to one of the addresses, translated or
// not. Who calls while the table is being read is served with all others that do, by
// reading it once more.
func (t *Table) Forget(ctx context.Context, addrs []netip.Addr) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("forget connections of %v: %w", addrs, err)
	}
	t.mu.Lock()
	b, first := t.next, false
	if b == nil {
		b, first = &batch{done: make(chan struct{})}, true
		t.next = b
	}
	b.addrs = append(b.addrs, addrs...)
	t.mu.Unlock()
	if first {
		t.turn.Lock()
		t.mu.Lock()
		t.next = nil
		t.mu.Unlock()
		b.err = forgetAddresses(context.WithoutCancel(ctx), b.addrs) // the others', too
		close(b.done)
		t.turn.Unlock()
	}
	<-b.done
	return b.err
}

func forgetAddresses(ctx context.Context, addrs []netip.Addr) error {
	wanted := map[netip.Addr]bool{}
	for _, a := range addrs {
		wanted[a] = true
	}
	filters := map[filter]bool{}
	for a := range wanted {
		filters[askedBy(a)], filters[answeredBy(a)] = true, true
	}
	err := forget(ctx, addrs, filters, func(e entry) bool {
		return wanted[e.original.src.Addr()] || wanted[e.original.dst.Addr()] ||
			wanted[e.reply.src.Addr()] || wanted[e.reply.dst.Addr()]
	})
	if err != nil {
		return fmt.Errorf("forget connections of %v: %w", addrs, err)
	}
	return nil
}

// ForgetPorts ends the connections to published ports that have been opened or
// closed: those that a container answers on its port, and those to the host's
// port, wherever they were led before. Connections of the container's own making stay.
func (*Table) ForgetPorts(ctx context.Context, ports []firewall.Published) error {
	if len(ports) == 0 {
		return nil
	}
	var local []netip.Addr
	if slices.ContainsFunc(ports, ofEveryAddress) { // which takes longer, the more links there are
		var err error
		if local, err = localAddresses(); err != nil {
			return fmt.Errorf("forget connections to %v: %w", ports, err)
		}
	}
	containers, hosts := map[service]bool{}, map[service]bool{}
	var addrs []netip.Addr
	filters := map[filter]bool{}
	for _, p := range ports {
		protocol := protocols[p.Protocol]
		addrs = append(addrs, p.Container)
		inside := service{protocol, netip.AddrPortFrom(p.Container, p.Port)}
		containers[inside], filters[answeredAt(inside)] = true, true
		if p.HostPort == 0 {
			continue
		}
		filters[askedAt(service{protocol, netip.AddrPortFrom(p.Container, p.HostPort)})] = true
		if !ofEveryAddress(p) {
			hosts[service{protocol, netip.AddrPortFrom(p.HostIP, p.HostPort)}] = true
			continue
		}
		for _, a := range local {
			hosts[service{protocol, netip.AddrPortFrom(a, p.HostPort)}] = true
		}
	}
	err := forget(ctx, addrs, filters, func(e entry) bool {
		return containers[service{e.protocol, e.reply.src}] || hosts[service{e.protocol, e.original.dst}]
	})
	if err != nil {
		return fmt.Errorf("forget connections to %v: %w", ports, err)
	}
	return nil
}

// ofEveryAddress reports whether a port is published on all addresses of the host.
func ofEveryAddress(p firewall.Published) bool {
	return p.HostPort != 0 && (!p.HostIP.IsValid() || p.HostIP.IsUnspecified())
}

// ForgetPools ends every connection from or to an address of the prefixes, whoever had it.
func (*Table) ForgetPools(ctx context.Context, pools []netip.Prefix) error {
	var addrs []netip.Addr
	families := map[filter]bool{}
	for _, p := range pools {
		addrs = append(addrs, p.Addr())
		families[filter{is6: p.Addr().Is6()}] = true
	}
	within := func(a netip.AddrPort) bool {
		return slices.ContainsFunc(pools, func(p netip.Prefix) bool { return p.Contains(a.Addr()) })
	}
	err := forget(ctx, addrs, families, func(e entry) bool {
		return within(e.original.src) || within(e.original.dst) || within(e.reply.src) || within(e.reply.dst)
	})
	if err != nil {
		return fmt.Errorf("forget connections of %v: %w", pools, err)
	}
	return nil
}

// service is where connections are made to.
type service struct {
	protocol uint8
	at       netip.AddrPort
}

// protocols are those that can be published.
var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// localAddresses are the host's own.
func localAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("read the host's addresses: %w", err)
	}
	local := make([]netip.Addr, 0, len(all))
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			local = append(local, prefix.Addr())
		}
	}
	return local, nil
}

// forget ends the connections that match, in the families of the addresses. Entries that come
// meanwhile are made by the rules as they are now.
func forget(ctx context.Context, addrs []netip.Addr, filters map[filter]bool, match func(entry) bool) error {
	if len(addrs) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	tracked, err := count()
	if absent(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("count the connection tracking table: %w", err)
	}
	var doomed [][]byte
	for _, question := range questions(tracked, familyOf(addrs), filters) {
		err := request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, question, func(message []byte) bool {
			if e, ok := parse(message); ok && match(e) {
				doomed = append(doomed, slices.Clone(message)) // it lies in a buffer with many others
			}
			return true
		})
		if absent(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the connection tracking table: %w", err)
		}
	}
	for _, message := range doomed {
		if err := ctx.Err(); err != nil {
			return err
		}
		// An entry names itself: by its tuples, its zone and its ID, so that a
		// new one of the same tuples is not meant.
		err := request(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, message, func([]byte) bool { return true })
		if err != nil && !errors.Is(err, unix.ENOENT) { // it may have ended by itself
			e, _ := parse(message)
			return fmt.Errorf("delete connection %s: %w", e, err)
		}
	}
	return nil
}

// questions are for what of the table is to be read. The kernel goes through every bucket for
// each, which takes ten milliseconds even where hardly any is in use; what takes long on a busy
// host is to hand over each entry. So it is asked for what filters pass where entries are many
// and filters few, and otherwise all is read once. Nothing is where nothing is tracked.
func questions(tracked int, family uint8, filters map[filter]bool) (all [][]byte) {
	switch {
	case tracked == 0:
		return nil
	case tracked <= fewEntries || len(filters) > maxFilters:
		return [][]byte{{family, 0, 0, 0}}
	}
	for f := range filters {
		all = append(all, f.request())
	}
	return all
}

// fewEntries are read in less time than the kernel takes to go through the table once more.
const fewEntries = 5000

// Of enum cntl_msg_types and enum ctattr_stats_global in
// include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	getStats           = 5
	statsGlobalEntries = 1
)

// count is how many entries this network namespace has. The kernel knows without looking. Its
// answer says that more follows, and what follows is the acknowledgement alone.
func count() (n int, err error) {
	err = request(getStats, unix.NLM_F_ACK, make([]byte, nfgenBytes), func(message []byte) bool {
		if len(message) < nfgenBytes {
			return true
		}
		for kind, value := range nlattr.All(message[nfgenBytes:]) {
			if kind == statsGlobalEntries && len(value) == 4 {
				n = int(binary.BigEndian.Uint32(value))
			}
		}
		return true
	})
	return n, err
}

// familyOf is the address family of all the addresses, or AF_UNSPEC for both.
func familyOf(addrs []netip.Addr) uint8 {
	switch {
	case !slices.ContainsFunc(addrs, netip.Addr.Is6):
		return unix.AF_INET
	case !slices.ContainsFunc(addrs, netip.Addr.Is4):
		return unix.AF_INET6
	default:
		return unix.AF_UNSPEC
	}
}

// request sends a message of ctnetlink, from its struct nfgenmsg on, and hands over the answers.
func request(message, flags int, data []byte, answer func([]byte) bool) error {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|message, flags)
	r.AddRawData(data)
	return r.ExecuteIter(unix.NETLINK_NETFILTER, 0, answer)
}

// absent reports whether an error says that the kernel has no connection
// tracking to ask: nfnetlink answers EINVAL for a subsystem that it does not
// have (net/netfilter/nfnetlink.c, nfnetlink_rcv_msg).
func absent(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)
}
