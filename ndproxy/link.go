package ndproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// maxNotices bounds how many addresses wait to be told to a link. What exceeds
// it is not told: neighbors then find the address by solicitation.
const maxNotices = 512

// noticeInterval spaces what is told, so that many leases are no flood.
const noticeInterval = time.Millisecond

var (
	errNotDialed = errors.New("not dialed yet")
	errChanged   = errors.New("the link has changed")
)

// A link is a parent link with leases, whether it exists or not.
type link struct {
	name    string
	log     *slog.Logger
	proxy   Proxy
	stop    context.CancelFunc // set by Supervisor.Run, under its mutex
	changed chan struct{}      // holds one event

	mu      sync.Mutex
	err     error           // nil while the proxy runs
	notices chan netip.Addr // nil while it does not
}

func newLink(name string, log *slog.Logger) *link {
	return &link{name: name, log: log.With("link", name), changed: make(chan struct{}, 1), err: errNotDialed}
}

// change makes run dial again. It does not block.
func (l *link) change() {
	select {
	case l.changed <- struct{}{}:
	default: // one is pending, and it will be acted on after now
	}
}

// notice has a new or removed lease told to the link. It does not block.
func (l *link) notice(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.notices <- addr: // blocks while nil: a session tells all leases when it begins
	default:
	}
}

func (l *link) status() spec.ProxyStatus {
	s := spec.ProxyStatus{
		Parent: l.name, Path: "packet",
		Addresses: slices.SortedFunc(l.proxy.Leases.All(), netip.Addr.Compare),
		Counters:  l.proxy.Counters.Snapshot(),
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		s.Error = l.err.Error()
	}
	return s
}

// run proxies on the link until ctx ends.
func (l *link) run(ctx context.Context, dial func(context.Context, string) (Conn, error)) {
	wait := minRedial
	for ctx.Err() == nil {
		select {
		case <-l.changed: // events up to here are about the link that is now dialed
		default:
		}
		conn, err := dial(ctx, l.name)
		if err == nil {
			wait = minRedial
			if err = l.session(ctx, conn); errors.Is(err, errChanged) {
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
func (l *link) session(parent context.Context, conn Conn) error {
	notices := make(chan netip.Addr, maxNotices)
	l.begin(notices)
	defer l.end()

	ctx, cancel := context.WithCancelCause(parent)
	var running sync.WaitGroup
	running.Go(func() { l.tell(ctx, conn, notices) })
	running.Go(func() {
		select {
		case <-ctx.Done():
		case <-l.changed:
			cancel(errChanged)
		}
	})
	err := l.proxy.Run(ctx, conn)
	cancel(err)
	running.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, errChanged) {
		return cause
	}
	return err
}

// begin has all leases told, and those that come from now on.
func (l *link) begin(notices chan netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.Info("proxying neighbor discovery", "addresses", l.proxy.Leases.Len())
	l.err, l.notices = nil, notices
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

// tell brings the link in step with the leases named by notices: it joins the
// group of a live one and advertises it, so that upstream learns at once
// (RFC 9131), and leaves that of another.
func (l *link) tell(ctx context.Context, conn Conn, notices <-chan netip.Addr) {
	frame := make([]byte, 0, FrameLen)
	pace := time.NewTicker(noticeInterval)
	defer pace.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case addr := <-notices:
			if l.proxy.Leases.Has(addr) {
				joined := conn.Join(addr) // first: who hears of addr may ask for it
				_, sent := conn.Write(unsolicited(addr, station(conn)).AppendFrame(frame))
				err = errors.Join(wrap("join the group of", addr, joined), wrap("announce", addr, sent))
			} else {
				err = wrap("leave the group of", addr, conn.Leave(addr))
			}
		}
		if err != nil && ctx.Err() == nil {
			l.log.Warn("address not told to the link", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
	}
}

func wrap(doing string, addr netip.Addr, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", doing, addr, err)
}
