package ndbpf

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// minLeases is the size of the first table: a hash table of the kernel has a fixed
// size, takes 16 bytes of memory for each place, and as much again for each lease
// as that needs. One that is full is replaced by one of growth times its size.
const (
	minLeases = 1024
	growth    = 4
)

// Add has taken effect when it returns.
func (c *Conn) Add(addr netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil // the next Conn is told all
	}
	k := key(addr)
	err := put(c.leases, &k)
	if errors.Is(err, unix.E2BIG) {
		if err = c.grow(growth * c.leases.MaxEntries()); err == nil {
			err = put(c.leases, &k)
		}
	}
	if err != nil {
		return fmt.Errorf("add %s to link %s: %w", addr, c.Name(), err)
	}
	return nil
}

// AddAll is Add for many.
func (c *Conn) AddAll(addrs []netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(addrs) == 0 {
		return nil
	}
	keys, values := make([][2]uint64, len(addrs)), make([]uint8, len(addrs))
	for i, addr := range addrs {
		keys[i], values[i] = key(addr), present
	}
	_, err := c.leases.BatchUpdate(keys, values, nil)
	if errors.Is(err, unix.E2BIG) {
		if err = c.grow(growth * c.leases.MaxEntries()); err == nil {
			_, err = c.leases.BatchUpdate(keys, values, nil)
		}
	}
	if err != nil {
		return fmt.Errorf("add %d addresses to link %s: %w", len(addrs), c.Name(), err)
	}
	return nil
}

// Reserve makes room for n addresses in all.
func (c *Conn) Reserve(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	size := c.leases.MaxEntries()
	for int(size) < n {
		size *= growth
	}
	if size == c.leases.MaxEntries() {
		return nil
	}
	return c.grow(size)
}

var present = uint8(1)

// put adds without what reflection and allocation cost with a million leases.
func put(leases *ebpf.Map, k *[2]uint64) error {
	return leases.Update(unsafe.Pointer(k), unsafe.Pointer(&present), ebpf.UpdateAny)
}

// Remove has taken effect when it returns.
func (c *Conn) Remove(addr netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	k := key(addr)
	if err := c.leases.Delete(unsafe.Pointer(&k)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove %s from link %s: %w", addr, c.Name(), err)
	}
	return nil
}

// grow replaces the table by one with room for size leases. The program sees the
// old one or the new one, both whole.
func (c *Conn) grow(size uint32) error {
	table, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "v6net_leases", Type: ebpf.Hash, KeySize: 16, ValueSize: 1, MaxEntries: size, Flags: unix.BPF_F_NO_PREALLOC,
	})
	if err != nil {
		return fmt.Errorf("make a table of %d leases: %w", size, explain(err))
	}
	if c.leases != nil {
		if err := copyLeases(table, c.leases); err != nil {
			return errors.Join(err, table.Close())
		}
	}
	if err := c.objects.Leases.Put(uint32(0), table); err != nil {
		return errors.Join(fmt.Errorf("put the table of %d leases in place: %w", size, err), table.Close())
	}
	old := c.leases
	c.leases = table
	if old != nil {
		return old.Close()
	}
	return nil
}

// copyLeases copies by the thousand (BPF_MAP_LOOKUP_BATCH, Linux 5.6).
func copyLeases(to, from *ebpf.Map) error {
	const batch = 4096
	keys, values := make([][2]uint64, batch), make([]uint8, batch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := from.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("read the table of leases: %w", err)
		}
		if n > 0 {
			if _, err := to.BatchUpdate(keys[:n], values[:n], nil); err != nil {
				return fmt.Errorf("copy the table of leases: %w", err)
			}
		}
		if err != nil { // that was the end
			return nil
		}
	}
}
