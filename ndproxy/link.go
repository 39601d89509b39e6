package ndproxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/v6net/v6net/internal/spec"
)

// The wait for a link that cannot be dialed, when no event ends it earlier.
// Doubled after every failure.
const (
	minRedial = time.Second
	maxRedial = time.Minute
)

// maxNews bounds the rivals that wait to be logged.
const maxNews = 64

// What is told puts each lease into the neighbor tables of the link's routers. Linux
// has room for 1,024 in all, and makes more by forgetting what is five seconds old
// (net/core/neighbour.c neigh_forced_gc): so that other neighbors keep their place,
// no more than 700 leases are told in that time.
const (
	noticeInterval = 10 * time.Millisecond
	noticeBurst    = 200
)

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

// run proxies on the link until ctx ends.
func (l *link) run(ctx context.Context, dial Dialer) {
	wait := minRedial
	for ctx.Err() == nil {
		select {
		case <-l.changed: // events up to here are about the link that is now dialed
		default:
		}
		conn, slow, err := dial(ctx, l.name)
		if err == nil {
			wait = minRedial
			if err = l.session(ctx, conn, slow); errors.Is(err, errChanged) {
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		l.degrade(err)
		select {
		case <-ctx.Done():
		case <-l.changed:
			wait = minRedial
		case <-time.After(wait):
			wait = min(2*wait, maxRedial)
		}
	}
}

// session proxies on conn and closes it. Its error is nil when ctx ended,
// errChanged when the link has changed, or why reading failed.
func (l *link) session(parent context.Context, conn Conn, slow error) error {
	notices, told := newQueue(), newQueue()
	fast, isFast := conn.(FastPath)
	l.begin(notices, isFast, slow)
	defer l.end()

	ctx, cancel := context.WithCancelCause(parent)
	var running sync.WaitGroup
	running.Go(func() {
		// First: who attaches by clsact has all lost that the link sends meanwhile
		// (net/sched/sch_api.c qdisc_graft).
		if isFast {
			l.accelerate(ctx, fast)
		}
		l.joinAll(ctx, conn)
		// After joining: who hears of an address may ask for it.
		running.Go(func() { l.tell(ctx, conn, told) })
		l.join(ctx, conn, notices, told)
	})
	running.Go(func() { l.logRivals(ctx) })
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-l.changed:
			}
			if conn.Changed() {
				cancel(errChanged)
			}
		}
	})
	err := l.proxy.Run(ctx, conn)
	cancel(err)
	running.Wait()
	if isFast {
		if err := fast.Detach(); err != nil { // for the second time
			l.log.Warn("the fast path of the NDP proxy is not taken off the link", "err", err)
		}
	}
	if cause := context.Cause(ctx); errors.Is(cause, errChanged) {
		return cause
	}
	return err
}

// begin has notice taken of the leases that come from now on.
func (l *link) begin(notices *queue, fast bool, slow error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := pathPacket
	if fast {
		path = pathEBPF
	}
	if slow != nil && (l.slow == nil || l.slow.Error() != slow.Error()) {
		l.log.Warn("the NDP proxy answers by packet socket: no eBPF", "err", slow)
	}
	l.log.Info("proxying neighbor discovery", "addresses", l.proxy.Leases.Len(), "path", path)
	l.err, l.notices, l.slow, l.all = nil, notices, slow, false
}

func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notices, l.all = nil, false
	l.settle()
}

// accelerate fills the fast path and attaches it. Until then, and if that fails,
// all is answered without it.
func (l *link) accelerate(ctx context.Context, fast FastPath) {
	l.mu.Lock()
	l.fast = fast
	l.speed(errors.Join(fast.SetPrefixes(l.proxy.prefixes.all()), fast.Reserve(l.proxy.Leases.Len())))
	l.mu.Unlock()
	addrs := make([]netip.Addr, 0, piece)
	fill := func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.fast == nil || ctx.Err() != nil {
			return false
		}
		// Still: what was removed meanwhile must not come back.
		addrs = slices.DeleteFunc(addrs, func(addr netip.Addr) bool { return !l.proxy.Leases.Has(addr) })
		l.speed(fast.AddAll(addrs))
		addrs = addrs[:0]
		return l.fast != nil
	}
	for addr := range l.proxy.Leases.All() {
		if addrs = append(addrs, addr); len(addrs) == piece && !fill() {
			return
		}
	}
	if !fill() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fast != nil && ctx.Err() == nil {
		l.speed(fast.Attach(l.proxy.station(fast), l.proxy.Knobs))
	}
	if l.fast != nil {
		l.log.Info("answering by eBPF", "addresses", l.proxy.Leases.Len())
		l.report(fast)
	}
}

// degrade records why the link does not work, and logs it once.
func (l *link) degrade(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil || l.err.Error() != err.Error() {
		l.log.Warn("cannot proxy neighbor discovery", "err", err)
	}
	l.err = err
}

// joinAll begins the memberships of the link.
func (l *link) joinAll(ctx context.Context, conn Conn) {
	if len(l.proxy.prefixes.all()) > 0 {
		l.joinFor(ctx, conn, anyAddress)
	}
	for addr := range l.proxy.Leases.All() {
		if ctx.Err() != nil || l.joinFor(ctx, conn, addr) {
			return
		}
	}
}

// joinFor has solicitations for an address arrive, and reports whether all do.
func (l *link) joinFor(ctx context.Context, conn Conn, addr netip.Addr) (all bool) {
	var err error
	if addr == anyAddress {
		if err = conn.JoinAll(); err != nil {
			err = fmt.Errorf("receive all multicast: %w", err)
		}
		all = err == nil
	} else {
		all, err = conn.Join(addr)
		err = wrap("join the group of", addr, err)
	}
	l.complain(ctx, err)
	if !all {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.all && addr != anyAddress {
		l.log.Warn("more addresses than groups that can be joined: all multicast is received, and switches that snoop MLD may hold solicitations back",
			"addresses", l.proxy.Leases.Len())
	}
	l.all = true
	return true
}

// join brings the memberships of the link in step with the leases named by
// notices, and passes the live ones on to tell.
func (l *link) join(ctx context.Context, conn Conn, notices, told *queue) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-notices.wake:
		}
		for _, addr := range notices.take() {
			switch {
			case ctx.Err() != nil:
				return
			case addr == anyAddress:
				l.joinFor(ctx, conn, addr)
			case l.proxy.Leases.Has(addr):
				l.joinFor(ctx, conn, addr)
				told.put(addr)
			default:
				l.complain(ctx, wrap("leave the group of", addr, conn.Leave(addr)))
			}
		}
	}
}

// tell makes live leases known on the link, so that upstream learns at once: by
// an unsolicited advertisement (RFC 9131), by a probe, whose answer would be a
// conflict, and by asking for every gateway on the lease's behalf. All that there
// are it tells in turn, and those that come meanwhile first.
func (l *link) tell(ctx context.Context, conn Conn, told *queue) {
	pace := rate.NewLimiter(rate.Every(noticeInterval), noticeBurst)
	next, stop := iter.Pull(l.proxy.Leases.All())
	defer stop()
	frame := make([]byte, 0, FrameLen)
	var fresh []netip.Addr
	early := make(map[netip.Addr]bool) // told before their turn
	for more := true; ; {
		var addr netip.Addr
		switch fresh = append(fresh, told.take()...); {
		case len(fresh) > 0:
			addr, fresh = fresh[0], fresh[1:]
			if more {
				early[addr] = true
			}
		case more:
			if addr, more = next(); !more {
				early = nil
			} else if early[addr] {
				continue
			}
		default:
			select {
			case <-ctx.Done():
				return
			case <-told.wake:
			}
		}
		if !l.proxy.Leases.Has(addr) {
			continue
		}
		l.tellOf(ctx, conn, addr, frame)
		if pace.Wait(ctx) != nil {
			return
		}
	}
}

func (l *link) tellOf(ctx context.Context, conn Conn, addr netip.Addr, frame []byte) {
	at := l.proxy.station(conn)
	_, probed := conn.Write(probe(frame, addr, at))
	_, sent := conn.Write(unsolicited(addr, at).AppendFrame(frame))
	err := errors.Join(wrap("probe for", addr, probed), wrap("announce", addr, sent))
	for _, gateway := range conn.Gateways() {
		_, sent := conn.Write(solicit(frame, addr, gateway, at))
		err = errors.Join(err, wrap("ask for a gateway on behalf of", addr, sent))
	}
	l.complain(ctx, err)
}

// logRivals logs those that are news.
func (l *link) logRivals(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-l.news:
			l.log.Warn("another host has an address of ours for its own",
				"address", r.Target, "mac", net.HardwareAddr(r.HardwareAddr[:]).String())
		}
	}
}

func (l *link) complain(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		l.log.Warn("address not told to the link", "err", err)
	}
}

func wrap(doing string, addr netip.Addr, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", doing, addr, err)
}
