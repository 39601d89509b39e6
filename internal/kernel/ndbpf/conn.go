package ndbpf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/v6net/v6net/internal/kernel/icmp6"
	"github.com/v6net/v6net/ndproxy"
)

// Conn is a packet socket whose link answers for leases itself. It implements
// ndproxy.FastPath. What it has put into the kernel goes with Close and, on Linux
// 6.6 and newer, with the process; before that, [Sweep] removes what a process that
// was killed has left.
type Conn struct {
	*icmp6.Conn
	load   func(*programObjects) error
	attach func(link attachPoint, program *ebpf.Program) (attachment, error)

	mu       sync.Mutex
	objects  programObjects
	leases   *table     // nil: nothing is loaded yet
	attached attachment // nil: not, or not any more
	config   programConfig
	settled  [programReasons]uint64 // once closed
	reports  *reports               // nil: nobody watches
	closed   bool

	ready atomic.Bool // the source of answers is in the kernel
}

func load(objects *programObjects) error {
	if err := loadProgramObjects(objects, nil); err != nil {
		return fmt.Errorf("no eBPF: %w", explain(err))
	}
	return nil
}

// Dial opens a Conn on a link, as icmp6.Dial does. Nothing is answered by the
// link until Attach.
func Dial(ctx context.Context, link string) (*Conn, error) { return dial(ctx, link, attach, load) }

func dial(ctx context.Context, link string, attach func(attachPoint, *ebpf.Program) (attachment, error), load func(*programObjects) error) (*Conn, error) {
	conn, err := icmp6.Dial(ctx, link)
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: conn, attach: attach, load: load}, nil
}

// Load implements ndproxy.FastPath. Again it is no change.
func (c *Conn) Load() error {
	if c.isLoaded() {
		return nil
	}
	var objects programObjects
	if err := c.load(&objects); err != nil { // not under the lock, which answering takes
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.Join(errClosed, objects.Close())
	}
	c.objects = objects
	if err := c.replace(0); err != nil {
		c.objects = programObjects{}
		return errors.Join(fmt.Errorf("no eBPF: %w", err), objects.Close())
	}
	return nil
}

func (c *Conn) isLoaded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leases != nil
}

// Attach begins to answer for what was added. Until the program does the packet socket
// hears all, and after that what is left: for a moment both answer, and never none.
func (c *Conn) Attach(at ndproxy.Station, knobs ndproxy.Knobs) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	all, source := knobs.Rates()
	c.config.Mac = at.HardwareAddr
	c.config.Ifindex = uint32(c.Index())
	c.config.Flags = at.SolicitedFlags()
	c.config.Interval, c.config.Burst = share(all)
	c.config.SourceInterval, c.config.SourceBurst = share(source)
	c.config.Secret = rand.Uint64()
	c.config.Nonces = at.Nonces.Secret
	if at.TargetAsSource {
		c.config.TargetAsSource = 1
	}
	if knobs.Delay > 0 {
		c.config.Delayed = 1
	}
	if at.TargetAsSource || at.LinkLocal.IsValid() {
		if err := c.answerFrom(at.LinkLocal); err != nil {
			return err
		}
	} else if err := c.configure(); err != nil {
		return err
	}
	c.ready.Store(c.config.Ready == 1)

	attached, err := c.attach(attachPoint{c.Name(), c.Index()}, c.objects.NdproxyAnswer)
	if err != nil {
		return err
	}
	c.attached = attached
	if err := c.Behind(c.objects.NdproxyListen.FD()); err != nil {
		return errors.Join(err, c.Ahead(), c.detach())
	}
	return nil
}

func share(rate int) (interval, burst uint64) {
	i, b := ndproxy.Share(rate)
	return uint64(i), uint64(b)
}

// LinkLocal is as of icmp6.Conn. Once there is one, the link answers from it.
func (c *Conn) LinkLocal() netip.Addr {
	addr := c.Conn.LinkLocal()
	if addr.IsValid() && !c.ready.Load() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.attached != nil && c.answerFrom(addr) == nil {
			c.ready.Store(true)
		}
	}
	return addr
}

// answerFrom has the link answer from an address. The source is in place before
// what tells the program to use it: an update is not atomic for who reads.
func (c *Conn) answerFrom(source netip.Addr) error {
	if source.IsValid() {
		c.config.Source = source.As16()
	}
	if err := c.configure(); err != nil {
		return err
	}
	c.config.Ready = 1
	return c.configure()
}

func (c *Conn) configure() error {
	if err := c.objects.Configs.Put(uint32(0), &c.config); err != nil {
		return fmt.Errorf("configure the NDP proxy of link %s: %w", c.Name(), err)
	}
	return nil
}

// Detach ends what Attach began, in the reverse order.
func (c *Conn) Detach() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.attached == nil || c.closed {
		return c.detach()
	}
	return errors.Join(c.Ahead(), c.detach())
}

// detach takes the program from the link, whoever answers then.
func (c *Conn) detach() error {
	if c.attached == nil {
		return nil
	}
	if err := c.attached.Close(); err != nil {
		// It is there, and must not answer; Detach and Close can be called again.
		c.config.Ready = 0
		err = fmt.Errorf("detach the NDP proxy from link %s: %w", c.Name(), err)
		if c.closed {
			return err
		}
		return errors.Join(err, c.configure())
	}
	c.attached = nil
	return nil
}

var errClosed = errors.New("closed")

// Close ends a Read that is waiting, and all that Conn has in the kernel.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.Join(c.detach(), c.Conn.Close())
	}
	if c.leases == nil {
		c.closed = true
		return c.Conn.Close()
	}
	err := errors.Join(c.detach(), c.endReports())
	c.settled = c.read()
	c.closed = true
	return errors.Join(err, c.Conn.Close(), c.leases.close(), c.objects.Close())
}

// programReasons are those of enum reason in ndproxy.c.
const programReasons = 6

var reasons = [programReasons]ndproxy.Reason{
	1: ndproxy.Solicited, 2: ndproxy.Probed, 3: ndproxy.Defended, 4: ndproxy.UnknownTarget, 5: ndproxy.RateLimited,
}

// Count calls f with what the link has settled so far.
func (c *Conn) Count(f func(ndproxy.Reason, uint64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	settled := c.settled
	if !c.closed {
		settled = c.read()
	}
	for i := 1; i < programReasons; i++ {
		f(reasons[i], settled[i])
	}
}

// read adds the processors' counters up.
func (c *Conn) read() (sums [programReasons]uint64) {
	for i := range sums {
		var each []uint64
		if c.objects.Counters.Lookup(uint32(i), &each) != nil {
			continue
		}
		for _, n := range each {
			sums[i] += n
		}
	}
	return sums
}

// SetPrefixes replaces the prefixes that are answered for as a whole.
func (c *Conn) SetPrefixes(prefixes []netip.Prefix) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	wanted := make(map[[16]byte]uint32)
	for _, p := range prefixes {
		wanted[p.Addr().As16()] = uint32(p.Bits())
	}
	var key programPrefix
	var value uint8
	var gone []programPrefix
	for i := c.objects.Prefixes.Iterate(); i.Next(&key, &value); {
		if bits, ok := wanted[key.Address]; !ok || bits != key.Bits {
			gone = append(gone, key)
		}
	}
	for _, key := range gone {
		if err := c.objects.Prefixes.Delete(&key); err != nil {
			return fmt.Errorf("remove a prefix from link %s: %w", c.Name(), err)
		}
	}
	for _, p := range prefixes {
		if err := c.objects.Prefixes.Put(&programPrefix{Bits: uint32(p.Bits()), Address: p.Addr().As16()}, uint8(1)); err != nil {
			return fmt.Errorf("add prefix %s to link %s: %w", p, c.Name(), err)
		}
	}
	c.config.Prefixes = uint8(min(len(prefixes), 1))
	return c.configure()
}

// key is a lease's, in the order of its bytes on the wire.
func key(addr netip.Addr) (k [2]uint64) {
	b := addr.As16()
	k[0], k[1] = binary.NativeEndian.Uint64(b[:8]), binary.NativeEndian.Uint64(b[8:])
	return k
}
