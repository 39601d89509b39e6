package ndbpf

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A table is the leases as the program sees them: an array of the kernel's that is
// mapped into this process, so that a million leases take no system calls. Its
// layout is that of struct bucket in ndproxy.c.
//
// It is written while the program reads it. An address is two words, written so
// that its first half, which no other value has while it is 0, comes last and goes
// first.
type table struct {
	array   *ebpf.Map
	memory  []byte
	buckets []bucket // without the first one, which says how many
	secret  uint64
	used    int // slots that are not empty
	live    int
}

const (
	slots  = 4
	probes = 4 // buckets in which a lease can be
)

type bucket [slots]struct{ high, low atomic.Uint64 }

const bucketSize = int(unsafe.Sizeof(bucket{}))

// dead marks a slot whose address has gone: those behind it must still be found.
// Its first half is 0, as no address's is that the table holds.
const dead = 1

// errTableFull says that the table has to be replaced by a larger one.
var errTableFull = errors.New("the table of leases is full")

// minBuckets are 16 KiB, for up to 512 leases.
const minBuckets = 256

// newTable makes a table that holds n leases half full.
func newTable(n int) (*table, error) {
	count := minBuckets
	for count*slots < 2*n {
		count *= 2
	}
	array, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "v6net_leases", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(bucketSize), MaxEntries: uint32(1 + count),
		Flags: unix.BPF_F_MMAPABLE | unix.BPF_F_INNER_MAP,
	})
	if err != nil {
		return nil, fmt.Errorf("make a table for %d leases: %w", n, explain(err))
	}
	size := (1 + count) * bucketSize
	page := os.Getpagesize()
	memory, err := unix.Mmap(array.FD(), 0, (size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map a table for %d leases: %w", n, err), array.Close())
	}
	all := unsafe.Slice((*bucket)(unsafe.Pointer(&memory[0])), 1+count)
	t := &table{array: array, memory: memory, buckets: all[1:], secret: rand.Uint64()}
	all[0][0].high.Store(uint64(count - 1))
	all[0][0].low.Store(t.secret)
	return t, nil
}

func (t *table) close() error {
	t.buckets = nil
	return errors.Join(unix.Munmap(t.memory), t.array.Close())
}

// holdable reports whether the table can hold an address. One whose first half is
// 0 is not global; the program leaves it to package ndproxy.
func holdable(k [2]uint64) bool { return k[0] != 0 }

// hash is in_table's in ndproxy.c.
func (t *table) hash(k [2]uint64) uint64 {
	h := (k[1] ^ t.secret) * 0xff51afd7ed558ccd
	h = (h ^ h>>33 ^ k[0]) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// find is the place of k: where it is, or else where it can be put; nil where
// there is no room.
func (t *table) find(k [2]uint64) (high, low *atomic.Uint64, there bool) {
	h, mask := t.hash(k), uint64(len(t.buckets)-1)
	for i := range uint64(probes) {
		b := &t.buckets[(h+i)&mask]
		for j := range b {
			slot := &b[j]
			switch a, z := slot.high.Load(), slot.low.Load(); {
			case a == k[0] && z == k[1]:
				return &slot.high, &slot.low, true
			case a == 0 && high == nil:
				high, low = &slot.high, &slot.low
			}
			if slot.high.Load() == 0 && slot.low.Load() == 0 {
				return high, low, false
			}
		}
	}
	return high, low, false
}

func (t *table) add(k [2]uint64) error {
	high, low, there := t.find(k)
	switch {
	case there:
		return nil
	case high == nil || (t.used+1)*2 > len(t.buckets)*slots && low.Load() != dead:
		return errTableFull
	}
	if low.Load() != dead {
		t.used++
	}
	low.Store(k[1])
	high.Store(k[0])
	t.live++
	return nil
}

func (t *table) remove(k [2]uint64) {
	high, low, there := t.find(k)
	if !there {
		return
	}
	high.Store(0)
	low.Store(dead)
	t.live--
}

// all calls f with every lease.
func (t *table) all(f func(k [2]uint64) error) error {
	for i := range t.buckets {
		for j := range t.buckets[i] {
			slot := &t.buckets[i][j]
			if k := [2]uint64{slot.high.Load(), slot.low.Load()}; holdable(k) {
				if err := f(k); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Add has taken effect when it returns.
func (c *Conn) Add(addr netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.add(addr)
}

// AddAll is Add for many.
func (c *Conn) AddAll(addrs []netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, addr := range addrs {
		if err := c.add(addr); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) add(addr netip.Addr) error {
	k := key(addr)
	if c.closed || !holdable(k) {
		return nil // the next Conn is told all
	}
	err := c.leases.add(k)
	// With a new secret, if not with more room, all find their place.
	for tries := 0; errors.Is(err, errTableFull) && tries < 3; tries++ {
		if err = c.replace(2 * (c.leases.live + 1) << tries); err == nil {
			err = c.leases.add(k)
		}
	}
	if err != nil {
		return fmt.Errorf("add %s to link %s: %w", addr, c.Name(), err)
	}
	return nil
}

// Remove has taken effect when it returns.
func (c *Conn) Remove(addr netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := key(addr); !c.closed && holdable(k) {
		c.leases.remove(k)
	}
	return nil
}

// Reserve makes room for n addresses in all.
func (c *Conn) Reserve(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || n*2 <= len(c.leases.buckets)*slots {
		return nil
	}
	return c.replace(n)
}

// replace puts a table for n leases, and those that there are, in the place of the
// present one. The program sees one or the other, both whole.
func (c *Conn) replace(n int) error {
	next, err := newTable(n)
	if err != nil {
		return err
	}
	if c.leases != nil {
		if err := c.leases.all(next.add); err != nil {
			return errors.Join(err, next.close())
		}
	}
	if err := c.objects.Leases.Put(uint32(0), next.array); err != nil {
		return errors.Join(fmt.Errorf("put a table for %d leases in place: %w", n, err), next.close())
	}
	old := c.leases
	c.leases = next
	if old != nil {
		return old.close()
	}
	return nil
}
