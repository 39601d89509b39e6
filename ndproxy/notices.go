package ndproxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// What is told puts each lease into the neighbor tables of the link's routers. Linux
// has room for 1,024 in all, and makes more by forgetting what is five seconds old
// (net/core/neighbour.c neigh_forced_gc): so that other neighbors keep their place,
// no more than 700 leases are told in that time.
const (
	noticeInterval = 10 * time.Millisecond
	noticeBurst    = 200
)

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
