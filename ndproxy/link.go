package ndproxy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// maxNews bounds the rivals that wait to be logged.
const maxNews = 64

var (
	errNotDialed = errors.New("not dialed yet")
	errChanged   = errors.New("the link has changed")
)

// The data paths of a link.
const (
	pathPacket = "packet"
	pathEBPF   = "ebpf"
)

// A link is a parent link with leases, whether it exists or not.
type link struct {
	name    string
	log     *slog.Logger
	proxy   Proxy
	rivals  rivals
	news    chan Rival         // to be logged
	stop    context.CancelFunc // set by Supervisor.Run, under its mutex
	changed chan struct{}      // holds one event
	ended   chan struct{}      // closed when run has ended

	mu      sync.Mutex
	err     error    // nil while the proxy runs
	notices *queue   // of new and removed leases; nil while it does not run
	all     bool     // all multicast is received
	fast    FastPath // nil where there is none, or it has failed
	slow    error    // why there is no fast path, if one was wanted
}

func newLink(name string, knobs Knobs, log *slog.Logger) *link {
	l := &link{
		name: name, log: log.With("link", name), err: errNotDialed,
		news: make(chan Rival, maxNews), changed: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	l.proxy.Knobs, l.proxy.nonces = knobs, NewNonces()
	l.proxy.Rival = func(r Rival) { // between two reads: what takes time is logRivals'
		if l.rivals.see(r.Target, r.HardwareAddr, time.Now()) {
			select {
			case l.news <- r:
			default:
			}
		}
	}
	return l
}

// change makes run dial again. It does not block.
func (l *link) change() {
	select {
	case l.changed <- struct{}{}:
	default: // one is pending, and it will be acted on after now
	}
}

// piece is how many leases are added while the link is locked: there may be a
// million, and who asks for the status is not to wait for all.
const piece = 4096

// add and remove report whether that was a change.
func (l *link) add(addrs ...netip.Addr) (changed bool) {
	added := make([]netip.Addr, 0, min(len(addrs), piece))
	for some := range slices.Chunk(addrs, piece) {
		l.mu.Lock()
		if added = l.proxy.Leases.AddAll(some, added[:0]); len(added) > 0 {
			changed = true
			if l.fast != nil {
				l.speed(l.fast.AddAll(added))
			}
			l.notice(added...)
		}
		l.mu.Unlock()
	}
	return changed
}

func (l *link) remove(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.proxy.Leases.Remove(addr) {
		return false
	}
	if l.fast != nil {
		l.speed(l.fast.Remove(addr))
	}
	l.rivals.forget(addr)
	l.notice(addr)
	return true
}

// setPrefix begins or ends answering for a prefix, and reports a change.
func (l *link) setPrefix(prefix netip.Prefix, on bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	change := l.proxy.prefixes.remove
	if on {
		change = l.proxy.prefixes.add
	}
	if !change(prefix) {
		return false
	}
	if l.fast != nil {
		l.speed(l.fast.SetPrefixes(l.proxy.prefixes.all()))
	}
	l.notice(anyAddress)
	return true
}

// watch begins or ends the telling of what becomes of frames.
func (l *link) watch(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proxy.watched.Store(on && l.proxy.See != nil)
	if l.fast != nil {
		l.report(l.fast)
	}
}

// report has the fast path tell, too, or not any more. The caller holds l.mu.
func (l *link) report(fast FastPath) {
	r, can := fast.(Reporter)
	if !can {
		return
	}
	var see func(Seen)
	if l.proxy.watched.Load() {
		see = l.proxy.See
	}
	if err := r.Report(see); err != nil {
		l.log.Warn("what is answered by eBPF is not shown to who watches", "err", err)
	}
}

func (l *link) idle() bool { return l.proxy.Leases.Len() == 0 && len(l.proxy.prefixes.all()) == 0 }

// speed gives the fast path up when it has failed: what it does not know of it
// would keep from the other one. The caller holds l.mu.
func (l *link) speed(err error) {
	if err == nil {
		return
	}
	l.slow = errors.Join(err, l.fast.Detach())
	l.log.Warn("the fast path of the NDP proxy has failed; packets are answered one by one", "err", l.slow)
	l.settle()
}

// settle takes the fast path's counters over, at its end. The caller holds l.mu.
func (l *link) settle() {
	if l.fast != nil {
		l.fast.Count(func(r Reason, n uint64) { l.proxy.Counters.n[r].Add(n) })
	}
	l.fast = nil
}

// anyAddress is noticed when solicitations for all addresses have to arrive.
var anyAddress = netip.Addr{}

// notice has new or removed leases told to the link. It does not block. The
// caller holds l.mu.
func (l *link) notice(addrs ...netip.Addr) {
	if l.notices != nil { // else a session tells all leases when it begins
		l.notices.put(addrs...)
	}
}

// status is all but the addresses.
func (l *link) status() spec.ProxyStatus {
	s := spec.ProxyStatus{
		Parent: l.name, Path: pathPacket,
		Leases:    l.proxy.Leases.Len(),
		Prefixes:  slices.SortedFunc(slices.Values(l.proxy.prefixes.all()), netip.Prefix.Compare),
		Conflicts: l.rivals.list(),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.AllMulticast = l.all
	s.Counters = l.proxy.Counters.Snapshot()
	if l.fast != nil {
		s.Path = pathEBPF
		l.fast.Count(func(r Reason, n uint64) { s.Counters[r.String()] += n })
	}
	if l.slow != nil {
		s.PathError = l.slow.Error()
	}
	if l.err != nil {
		s.Error = l.err.Error()
	}
	return s
}
