package icmp6

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/afpacket"
)

// A Conn is a packet socket for the neighbor solicitations that one link
// receives. It implements ndproxy.Conn.
//
// It hears them before what is attached to the link does: an ipvlan in mode l3
// takes another host's duplicate address detection for a container's address away
// from its parent (drivers/net/ipvlan/ipvlan_core.c ipvlan_addr_lookup), and
// probes, too. The price is that every frame is held against the filter.
//
// It belongs to the link as it was dialed: after the link went down, was deleted
// or changed its MAC, it must be dialed again.
type Conn struct {
	file   *os.File
	link   ethernetLink
	groups *groups

	linkLocal atomic.Pointer[netip.Addr]
	mu        sync.Mutex
	tried     time.Time // when linkLocal was last looked for
	gateways  []netip.Addr
	asked     time.Time // when gateways were last looked for
	all       bool      // all multicast is received
}

// receiveBuffer, in bytes, is room for a burst of about 5,000 solicitations while
// another process has the processor.
const receiveBuffer = 4 << 20

// Dial opens a Conn on a link. The link must exist, be up (else the error is
// ENETDOWN) and be of the Ethernet kind.
func Dial(ctx context.Context, link string) (*Conn, error) {
	found, err := findLink(ctx, link)
	if err != nil {
		return nil, err
	}
	file, err := open(found, unix.ETH_P_ALL, proxyFilter(found))
	if err != nil {
		return nil, err
	}
	if err := onDescriptor(file, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	}); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("packet socket on %s: set receive buffer: %w", found.name, err)
	}
	if err := ignoreOutgoing(file); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("packet socket on %s: %w", found.name, err)
	}
	groups, err := newGroups(found)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &Conn{file: file, link: found, groups: groups}, nil
}

// Read waits for a frame. It fails when the link goes down or away.
func (c *Conn) Read(b []byte) (int, error) { return c.file.Read(b) }

// Write sends a frame.
func (c *Conn) Write(b []byte) (int, error) { return c.file.Write(b) }

// Close ends a Read that is waiting, and every membership of the Conn.
func (c *Conn) Close() error {
	_ = c.groups.close()
	return c.file.Close()
}

// HardwareAddr is the link's MAC address at the time of Dial.
func (c *Conn) HardwareAddr() [6]byte { return c.link.hardwareAddr }

// linkLocalRetry is how often a link without a link-local address is asked for
// one: right after it came up it has none that passed DAD.
const linkLocalRetry = 100 * time.Millisecond

// LinkLocal is a link-local address of the link that can be a source, zero while
// there is none. Once found it stays.
func (c *Conn) LinkLocal() netip.Addr {
	if found := c.linkLocal.Load(); found != nil {
		return *found
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.tried) >= linkLocalRetry {
		c.tried = now
		// An error is as good as no address: the caller can do without.
		if addr, err := c.link.linkLocal(context.Background()); err == nil && addr.IsValid() {
			c.linkLocal.Store(&addr)
			return addr
		}
	}
	return netip.Addr{}
}

// Changed reports whether the link has gone, went down, or has another MAC or
// link-local address. A link that was renamed is the same.
func (c *Conn) Changed() bool {
	now, err := c.link.again(context.Background())
	if err != nil || now.hardwareAddr != c.link.hardwareAddr {
		return true
	}
	known := c.linkLocal.Load()
	if known == nil {
		return false // it is looked for all the time
	}
	list, err := now.addresses(context.Background())
	return err != nil || !slices.ContainsFunc(list, func(a netlink.Addr) bool { return usable(a) && a.IP.Equal(known.AsSlice()) })
}

// gatewaysAge is how long a route is believed to be as it was.
const gatewaysAge = time.Second

// Gateways are the next hops of the default route over the link: one, or none.
func (c *Conn) Gateways() []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.asked) >= gatewaysAge {
		c.asked = now
		c.gateways = c.link.gateways()
	}
	return c.gateways
}

// Join has the kernel report membership of addr's solicited-node group by MLD, so
// snooping switches forward solicitations for addr (RFC 4861 §7.2.8). Above 512
// groups, or as many as there is room for, it does as JoinAll, and says so.
func (c *Conn) Join(addr netip.Addr) (all bool, err error) {
	err = c.groups.join(addr)
	if errors.Is(err, errTooManyGroups) {
		err = c.JoinAll()
		return err == nil, err
	}
	return false, err
}

// JoinAll has the link receive multicast of all groups, until Close.
func (c *Conn) JoinAll() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all {
		return nil
	}
	if err := receiveAll(c.file, c.link); err != nil {
		return err
	}
	c.all = true
	return nil
}

// Index is the link's number at the time of Dial.
func (c *Conn) Index() int { return c.link.index }

// Name is the link's name at the time of Dial.
func (c *Conn) Name() string { return c.link.name }

// Behind has Read see what ingress programs and what is attached to the link have left,
// and of that what passes an eBPF socket filter.
func (c *Conn) Behind(filter int) error {
	err := onDescriptor(c.file, func(fd int) error {
		if err := afpacket.Bind(fd, c.link.index, unix.ETH_P_IPV6); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, filter); err != nil {
			return fmt.Errorf("attach eBPF filter: %w", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("packet socket on %s: %w", c.link.name, err)
	}
	return nil
}

// Ahead undoes Behind.
func (c *Conn) Ahead() error {
	err := onDescriptor(c.file, func(fd int) error {
		return errors.Join(afpacket.Filter(fd, proxyFilter(c.link)), afpacket.Bind(fd, c.link.index, unix.ETH_P_ALL))
	})
	if err != nil {
		return fmt.Errorf("packet socket on %s: %w", c.link.name, err)
	}
	return nil
}

// Leave undoes Join.
func (c *Conn) Leave(addr netip.Addr) error { return c.groups.leave(addr) }
