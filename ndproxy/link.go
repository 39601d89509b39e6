package ndproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// The wait for a link that cannot be dialed, when no event ends it earlier.
// Doubled after every failure.
const (
	minRedial = time.Second
	maxRedial = time.Minute
)

// maxNotices bounds how many addresses wait to be told to a link. For more than
// that no group is joined but all multicast received, and what exceeds it is not
// told: neighbors then find the address by solicitation.
const maxNotices = 512

// noticeInterval spaces what is told, so that many leases are no flood.
const noticeInterval = time.Millisecond

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
	stop    context.CancelFunc // set by Supervisor.Run, under its mutex
	changed chan struct{}      // holds one event

	mu      sync.Mutex
	err     error           // nil while the proxy runs
	notices chan netip.Addr // nil while it does not
	many    bool            // more notices came than could wait
	fast    FastPath        // nil where there is none, or it has failed
	slow    error           // why there is no fast path, if one was wanted
}

func newLink(name string, knobs Knobs, log *slog.Logger) *link {
	l := &link{name: name, log: log.With("link", name), changed: make(chan struct{}, 1), err: errNotDialed}
	l.proxy.Knobs, l.proxy.nonces = knobs, NewNonces()
	l.proxy.Rival = func(r Rival) {
		if l.rivals.see(r.Target, r.HardwareAddr, time.Now()) {
			l.log.Warn("another host answers for an address of ours",
				"address", r.Target, "mac", net.HardwareAddr(r.HardwareAddr[:]).String())
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

// add and remove report whether that was a change.
func (l *link) add(addr netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.proxy.Leases.Add(addr) {
		return false
	}
	if l.fast != nil {
		l.speed(l.fast.Add(addr))
	}
	l.notice(addr)
	return true
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
	l.many = true // solicitations for any of its addresses have to arrive
	l.notice(netip.Addr{})
	return true
}

func (l *link) idle() bool { return l.proxy.Leases.Len() == 0 && len(l.proxy.prefixes.all()) == 0 }

// speed gives the fast path up when it has failed: what it does not know of it
// would keep from the other one. The caller holds l.mu.
func (l *link) speed(err error) {
	if err == nil {
		return
	}
	l.slow = errors.Join(err, l.fast.Detach())
	l.log.Warn("the fast path of the NDP proxy has failed; packets are answered one by one", "error", l.slow)
	l.settle()
}

// settle takes the fast path's counters over, at its end. The caller holds l.mu.
func (l *link) settle() {
	if l.fast != nil {
		l.fast.Count(func(r Reason, n uint64) { l.proxy.Counters.n[r].Add(n) })
	}
	l.fast = nil
}

// notice has a new or removed lease told to the link. It does not block. The
// caller holds l.mu.
func (l *link) notice(addr netip.Addr) {
	select {
	case l.notices <- addr: // blocks while nil: a session tells all leases when it begins
	default:
		l.many = true
	}
}

func (l *link) status() spec.ProxyStatus {
	s := spec.ProxyStatus{
		Parent: l.name, Path: pathPacket,
		Addresses: slices.SortedFunc(l.proxy.Leases.All(), netip.Addr.Compare),
		Prefixes:  slices.SortedFunc(slices.Values(l.proxy.prefixes.all()), netip.Prefix.Compare),
		Conflicts: l.rivals.list(),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
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
	notices := make(chan netip.Addr, maxNotices)
	fast, isFast := conn.(FastPath)
	l.begin(notices, isFast, slow)
	defer l.end()

	ctx, cancel := context.WithCancelCause(parent)
	var running sync.WaitGroup
	told := make(chan netip.Addr, maxNotices)
	running.Go(func() { l.join(ctx, conn, notices, told) })
	running.Go(func() { l.tell(ctx, conn, told) })
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
	if isFast {
		running.Go(func() { l.accelerate(ctx, fast) })
	}
	err := l.proxy.Run(ctx, conn)
	cancel(err)
	running.Wait()
	if isFast {
		if err := fast.Detach(); err != nil { // for the second time
			l.log.Warn("the fast path of the NDP proxy is not taken off the link", "error", err)
		}
	}
	if cause := context.Cause(ctx); errors.Is(cause, errChanged) {
		return cause
	}
	return err
}

// begin has all leases told, and those that come from now on.
func (l *link) begin(notices chan netip.Addr, fast bool, slow error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := pathPacket
	if fast {
		path = pathEBPF
	}
	if slow != nil && (l.slow == nil || l.slow.Error() != slow.Error()) {
		l.log.Warn("the NDP proxy answers by packet socket: no eBPF", "error", slow)
	}
	l.log.Info("proxying neighbor discovery", "addresses", l.proxy.Leases.Len(), "path", path)
	l.err, l.notices, l.slow = nil, notices, slow
	l.many = l.proxy.Leases.Len() > maxNotices || len(l.proxy.prefixes.all()) > 0
	if l.many {
		notices <- netip.Addr{} // it is empty: this does not block
	}
	for addr := range l.proxy.Leases.All() {
		select {
		case notices <- addr:
		default:
			return
		}
	}
}

func (l *link) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notices = nil
	l.settle()
}

// accelerate fills the fast path and attaches it. Until then, and if that fails,
// all is answered without it.
func (l *link) accelerate(ctx context.Context, fast FastPath) {
	l.mu.Lock()
	l.fast = fast
	l.speed(errors.Join(fast.SetPrefixes(l.proxy.prefixes.all()), fast.Reserve(l.proxy.Leases.Len())))
	l.mu.Unlock()
	// Locked for a piece at a time: there may be a million, and who adds another
	// is not to wait for all.
	const piece = 4096
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
	}
}

// degrade records why the link does not work, and logs it once.
func (l *link) degrade(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil || l.err.Error() != err.Error() {
		l.log.Warn("cannot proxy neighbor discovery", "error", err)
	}
	l.err = err
}

// join brings the memberships of the link in step with the leases named by
// notices, and passes the live ones on to tell.
func (l *link) join(ctx context.Context, conn Conn, notices <-chan netip.Addr, told chan<- netip.Addr) {
	for {
		var addr netip.Addr
		select {
		case <-ctx.Done():
			return
		case addr = <-notices:
		}
		l.mu.Lock()
		many := l.many
		l.many = false
		l.mu.Unlock()
		var err error
		if many {
			if err = conn.JoinAll(); err != nil {
				err = fmt.Errorf("receive all multicast: %w", err)
			}
		}
		switch {
		case !addr.IsValid():
		case l.proxy.Leases.Has(addr):
			err = errors.Join(err, wrap("join the group of", addr, conn.Join(addr)))
			select {
			case told <- addr: // after joining: who hears of addr may ask for it
			default:
			}
		default:
			err = errors.Join(err, wrap("leave the group of", addr, conn.Leave(addr)))
		}
		l.complain(ctx, err)
	}
}

// tell makes live leases known on the link, so that upstream learns at once: by
// an unsolicited advertisement (RFC 9131), by a probe, whose answer would be a
// conflict, and by asking for every gateway on the lease's behalf.
func (l *link) tell(ctx context.Context, conn Conn, told <-chan netip.Addr) {
	frame := make([]byte, 0, FrameLen)
	pace := time.NewTicker(noticeInterval)
	defer pace.Stop()
	for {
		var addr netip.Addr
		select {
		case <-ctx.Done():
			return
		case addr = <-told:
		}
		if l.proxy.Leases.Has(addr) {
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
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
	}
}

func (l *link) complain(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		l.log.Warn("address not told to the link", "error", err)
	}
}

func wrap(doing string, addr netip.Addr, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", doing, addr, err)
}
