package ip6tables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// settleTime lets a program finish: a starting Docker changes tables many times in a row.
	settleTime = 100 * time.Millisecond
	// retryTime is the wait after a restoration that failed.
	retryTime = time.Second
	// lookTime is how often iptables-legacy's tables are looked at. The kernel says
	// nothing of changes there, and the programs' lock, which does, is not the host's
	// own where the daemon has a root file system of its own.
	lookTime = 30 * time.Second
)

// lockFile is what every run of iptables-legacy opens and locks.
const lockFile = "/run/xtables.lock"

// calmTime is for how long after a restoration others wait the longer, up to as long:
// two programs that both want to be first do not keep the machine busy.
const calmTime = 10 * time.Second

// events say that tables or bridges may have changed.
type events struct {
	netlink []*netlink.Conn
	lock    *os.File      // inotify
	look    time.Duration // 0: the kernel says everything
	touched atomic.Bool   // tables may have changed, and not only links
}

// newEvents listens for variants, in the network namespace of the calling thread.
func newEvents(variants []string) (e *events, err error) {
	e = &events{}
	e.touched.Store(true) // what was changed before we listened is looked for at once
	defer func() {
		if err != nil {
			e, err = nil, errors.Join(err, e.close())
		}
	}()
	if err := e.join(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK); err != nil {
		return e, err
	}
	if slices.Contains(variants, "nft") {
		if err := e.join(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES); err != nil {
			return e, err
		}
	}
	if slices.Contains(variants, "legacy") {
		e.look = lookTime
		e.watchLock()
	}
	return e, nil
}

func (e *events) join(protocol int, group uint32) error {
	c, err := netlink.Dial(protocol, nil)
	if err != nil {
		return fmt.Errorf("open netlink socket for events: %w", err)
	}
	e.netlink = append(e.netlink, c)
	if err := c.JoinGroup(group); err != nil {
		return fmt.Errorf("listen to netlink events: %w", err)
	}
	return nil
}

// watchLock listens to whoever closes the lock. Where there can be none there is no
// other iptables-legacy either; and where the machine has no more instances or watches of
// inotify (fs.inotify in sysctl), looking now and then will do.
func (e *events) watchLock() {
	lock, err := os.OpenFile(lockFile, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	_ = lock.Close()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return
	}
	if _, err := unix.InotifyAddWatch(fd, lockFile, unix.IN_CLOSE); err != nil {
		_ = unix.Close(fd)
		return
	}
	e.lock = os.NewFile(uintptr(fd), "inotify")
}

func (e *events) close() error {
	var errs error
	for _, c := range e.netlink {
		errs = errors.Join(errs, c.Close())
	}
	if e.lock != nil {
		errs = errors.Join(errs, e.lock.Close())
	}
	return errs
}

// run tells changed of each event until ctx ends.
func (e *events) run(ctx context.Context, changed chan<- struct{}) error {
	tell := func(touched bool) {
		if touched {
			e.touched.Store(true)
		}
		select {
		case changed <- struct{}{}:
		default: // it is told already
		}
	}
	tasks, ctx := errgroup.WithContext(ctx)
	past := time.Unix(1, 0)
	for _, c := range e.netlink {
		tasks.Go(func() error {
			stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(past) })
			defer stop()
			for {
				msgs, err := c.Receive()
				switch {
				case ctx.Err() != nil:
					return nil
				case errors.Is(err, unix.ENOBUFS): // events were lost
					tell(true)
				case err != nil:
					return fmt.Errorf("receive netlink events: %w", err)
				case slices.ContainsFunc(msgs, ofLinks):
					tell(false)
				case slices.ContainsFunc(msgs, ofTables):
					tell(true)
				}
			}
		})
	}
	if e.lock != nil {
		tasks.Go(func() error {
			stop := context.AfterFunc(ctx, func() { _ = e.lock.SetReadDeadline(past) })
			defer stop()
			for b := make([]byte, 4096); ; {
				_, err := e.lock.Read(b)
				switch {
				case ctx.Err() != nil:
					return nil
				case err != nil:
					return fmt.Errorf("watch %s: %w", lockFile, err)
				}
				tell(true)
			}
		})
	}
	return tasks.Wait()
}

// ofLinks reports whether an event is of links.
func ofLinks(m netlink.Message) bool {
	return m.Header.Type == unix.RTM_NEWLINK || m.Header.Type == unix.RTM_DELLINK
}

// ofTables reports whether an event is of one of the tables that iptables-nft has. The
// table is the first attribute of every kind of message but NFT_MSG_NEWGEN, which comes
// after each change (enum nft_table_attributes and its like in
// include/uapi/linux/netfilter/nf_tables.h).
func ofTables(m netlink.Message) bool {
	const familyBytes = 4 // struct nfgenmsg
	kind := m.Header.Type
	if kind>>8 != unix.NFNL_SUBSYS_NFTABLES || kind&0xff == unix.NFT_MSG_NEWGEN || len(m.Data) < familyBytes {
		return false
	}
	if m.Data[0] != unix.NFPROTO_IPV4 && m.Data[0] != unix.NFPROTO_IPV6 {
		return false
	}
	attributes, err := netlink.NewAttributeDecoder(m.Data[familyBytes:])
	if err != nil || !attributes.Next() {
		return true // not understood, it is taken for the worst
	}
	name := attributes.String()
	return attributes.Type() != unix.NFTA_TABLE_NAME || name == foreignTable || slices.Contains(tableNames, name)
}

// watch has check look after events, until ctx ends. check reports whether it has put
// anything right.
func (e *events) watch(ctx context.Context, log *slog.Logger, check func(context.Context) (bool, error)) error {
	tasks, ctx := errgroup.WithContext(ctx)
	changed := make(chan struct{}, 1)
	tasks.Go(func() error { return e.run(ctx, changed) })
	tasks.Go(func() error {
		var mended time.Time
		settle := settleTime
		for wait := time.Duration(0); ; {
			if !sleep(ctx, wait) {
				return nil
			}
			select {
			case <-changed:
			default:
			}
			began := time.Now()
			repaired, err := check(ctx)
			if err != nil && ctx.Err() == nil {
				log.Error("firewall: cannot restore our rules", "err", err, "retry_in", retryTime)
				e.touched.Store(true)
				wait = retryTime
				continue
			}
			now := time.Now()
			switch {
			case !repaired:
			case now.Sub(mended) < calmTime:
				settle, mended = min(2*settle, calmTime), now
			default:
				settle, mended = settleTime, now
			}
			if !e.next(ctx, changed) {
				return nil
			}
			if wait = settleTime; time.Since(mended) < calmTime {
				wait = settle
			}
			// However much there is to read, and however often others change theirs.
			wait = max(wait, 3*now.Sub(began))
		}
	})
	return tasks.Wait()
}

// sleep reports whether ctx has not ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// next waits for an event, or until it is time to look; false: ctx has ended.
func (e *events) next(ctx context.Context, changed <-chan struct{}) bool {
	var look <-chan time.Time
	if e.look > 0 {
		timer := time.NewTimer(e.look)
		defer timer.Stop()
		look = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-look:
		e.touched.Store(true)
	case <-changed:
	}
	return true
}

// Watch puts our rules back whenever another program has changed them, and follows
// the bridges of others, as long as a ruleset is applied. It returns nil when ctx ends.
func (f *Firewall) Watch(ctx context.Context) error { return f.events.watch(ctx, f.log, f.check) }

// check puts right what is not as applied.
func (f *Firewall) check(ctx context.Context) (repaired bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.applied == nil {
		return false, nil
	}
	bridges, err := otherBridges(ctx, f.links, *f.applied)
	if err != nil {
		return false, err
	}
	before := f.repairs + f.accepts.commits.Load()
	switch touched := f.events.touched.Swap(false); {
	case !slices.Equal(bridges, f.bridges):
		f.log.Debug("firewall: other bridges", "bridges", bridges)
		if err = f.compile(ctx, *f.applied); err == nil {
			err = f.look(ctx)
		}
	case !touched && !f.accepts.appeared():
	case f.looked != 0 && f.looked == f.generation(): // the events were of what has been looked at
		f.accepts.check(ctx, "legacy")
	default:
		err = f.look(ctx)
	}
	return f.repairs+f.accepts.commits.Load() != before, err
}
