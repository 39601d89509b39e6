package ndproxy

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"net/netip"
	"sync"
	"sync/atomic"
)

// A Table is a set of leased IPv6 addresses. Has takes no lock and allocates
// nothing, whatever the size; Add and Remove may be called at the same time. The
// zero Table is empty and ready.
//
// It is a hash table with open addressing. A slot's address is written once,
// before the slot is marked, and stays until the whole array is replaced, so
// that a reader needs no more than the mark to trust it.
type Table struct {
	slots atomic.Pointer[slots]
	live  atomic.Int64

	mu   sync.Mutex // held by writers
	used int        // slots that are not empty
}

type slots struct {
	seed maphash.Seed // secret: strangers choose the targets that are looked up
	mask uint64       // number of slots - 1, a power of two
	all  []slot
}

type slot struct {
	hi, lo atomic.Uint64
	mark   atomic.Uint32
}

// The marks of a slot.
const (
	empty = iota
	dead  // the address had a lease
	live
)

const minSlots = 16

// Len is the number of addresses.
func (t *Table) Len() int { return int(t.live.Load()) }

// Has reports whether addr is in the table.
func (t *Table) Has(addr netip.Addr) bool {
	s := t.slots.Load()
	if s == nil || !addr.Is6() {
		return false
	}
	_, mark := s.find(split(addr))
	return mark == live
}

// Leased is Has.
func (t *Table) Leased(addr netip.Addr) bool { return t.Has(addr) }

// Add puts addr into the table and reports whether it was not there. What is
// not a plain IPv6 address is not taken. One Add in many makes the table grow,
// and takes the longer the more there are.
func (t *Table) Add(addr netip.Addr) bool {
	if !addr.Is6() || addr.Zone() != "" {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.add(addr)
}

// AddAll is Add for many. Those that were not there it appends to added.
func (t *Table) AddAll(addrs, added []netip.Addr) []netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, addr := range addrs {
		if addr.Is6() && addr.Zone() == "" && t.add(addr) {
			added = append(added, addr)
		}
	}
	return added
}

// add is Add of a plain IPv6 address. The caller holds t.mu.
func (t *Table) add(addr netip.Addr) bool {
	s := t.slots.Load()
	if s == nil || (t.used+1)*4 > len(s.all)*3 {
		s = t.rebuild(0)
	}
	k := split(addr)
	at, mark := s.find(k)
	switch mark {
	case live:
		return false
	case empty:
		t.used++
		at.hi.Store(k[0])
		at.lo.Store(k[1])
	}
	at.mark.Store(live)
	t.live.Add(1)
	return true
}

// Remove takes addr out of the table and reports whether it was there.
func (t *Table) Remove(addr netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.slots.Load()
	if s == nil || !addr.Is6() {
		return false
	}
	at, mark := s.find(split(addr))
	if mark != live {
		return false
	}
	at.mark.Store(dead)
	if t.live.Add(-1); len(s.all) > minSlots && t.Len() < len(s.all)/8 {
		t.rebuild(0)
	}
	return true
}

// Reserve makes room for n more addresses.
func (t *Table) Reserve(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.slots.Load(); s == nil || (t.used+n)*4 > len(s.all)*3 {
		t.rebuild(n)
	}
}

// All yields the addresses, in no order. One that is added or removed meanwhile
// may be yielded or not.
func (t *Table) All() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		s := t.slots.Load()
		if s == nil {
			return
		}
		for i := range s.all {
			if at := &s.all[i]; at.mark.Load() == live && !yield(join(at.key())) {
				return
			}
		}
	}
}

// rebuild replaces the slots by as many as the live addresses need, at most half
// full with one more, or with that many more.
func (t *Table) rebuild(more int) *slots {
	size := minSlots
	for size < 2*(t.Len()+max(1, more)) {
		size *= 2
	}
	s := &slots{seed: maphash.MakeSeed(), mask: uint64(size - 1), all: make([]slot, size)}
	if old := t.slots.Load(); old != nil {
		for i := range old.all {
			if from := &old.all[i]; from.mark.Load() == live {
				k := from.key()
				at, _ := s.find(k)
				at.hi.Store(k[0])
				at.lo.Store(k[1])
				at.mark.Store(live)
			}
		}
	}
	t.used = t.Len()
	t.slots.Store(s)
	return s
}

// find is the slot that holds k, or the empty one where k belongs, and its mark.
// The mark must not be read again: an empty slot may by then be another address's.
// Some slot is always empty.
func (s *slots) find(k [2]uint64) (at *slot, mark uint32) {
	for i := maphash.Comparable(s.seed, k); ; i++ {
		at = &s.all[i&s.mask]
		if mark = at.mark.Load(); mark == empty || at.key() == k {
			return at, mark
		}
	}
}

func (s *slot) key() [2]uint64 { return [2]uint64{s.hi.Load(), s.lo.Load()} }

func split(addr netip.Addr) [2]uint64 {
	b := addr.As16()
	return [2]uint64{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

func join(k [2]uint64) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], k[0])
	binary.BigEndian.PutUint64(b[8:], k[1])
	return netip.AddrFrom16(b)
}
