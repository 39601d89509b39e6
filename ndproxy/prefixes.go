package ndproxy

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// prefixes are those that are answered for as a whole. They are few, and are
// replaced as one, so that a reader needs no lock.
type prefixes struct {
	list atomic.Pointer[[]netip.Prefix]
}

func (p *prefixes) all() []netip.Prefix {
	if list := p.list.Load(); list != nil {
		return *list
	}
	return nil
}

func (p *prefixes) has(addr netip.Addr) bool {
	for _, prefix := range p.all() {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// add and remove report a change. They are not for concurrent use.
func (p *prefixes) add(prefix netip.Prefix) bool {
	old := p.all()
	if !prefix.Addr().Is6() || slices.Contains(old, prefix) {
		return false
	}
	list := append(slices.Clone(old), prefix)
	p.list.Store(&list)
	return true
}

func (p *prefixes) remove(prefix netip.Prefix) bool {
	old := p.all()
	if !slices.Contains(old, prefix) {
		return false
	}
	list := slices.DeleteFunc(slices.Clone(old), func(o netip.Prefix) bool { return o == prefix })
	p.list.Store(&list)
	return true
}
