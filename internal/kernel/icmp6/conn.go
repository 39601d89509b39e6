package icmp6

import (
	"context"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Conn is a packet socket for the neighbor solicitations that one link
// receives. It implements ndproxy.Conn.
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
}

// Dial opens a Conn on a link, and with it has the link receive all multicast,
// so that solicitations for any address arrive. The link must exist, be up
// (else the error is ENETDOWN) and be of the Ethernet kind.
func Dial(ctx context.Context, link string) (*Conn, error) {
	found, err := findLink(ctx, link)
	if err != nil {
		return nil, err
	}
	file, err := listen(found, neighborFilter(found, typeSolicitation))
	if err != nil {
		return nil, err
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

// Join has the kernel report membership of addr's solicited-node group by MLD, so
// that snooping switches forward solicitations for addr (RFC 4861 §7.2.8). Above
// 512 groups it does nothing: what is then not pruned still arrives.
func (c *Conn) Join(addr netip.Addr) error { return c.groups.join(addr) }

// Leave undoes Join.
func (c *Conn) Leave(addr netip.Addr) error { return c.groups.leave(addr) }
