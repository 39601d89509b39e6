package ip6tables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
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

// events say that tables or bridges may have changed.
type events struct {
	netlink []*netlink.Conn
	lock    *os.File      // inotify
	look    time.Duration // 0: the kernel says everything
}

// newEvents listens, in the network namespace of the calling thread.
func newEvents(variant string) (e *events, err error) {
	e = &events{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if err := e.join(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK); err != nil {
		return e, err
	}
	if variant == "nft" {
		return e, e.join(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	}
	e.look = lookTime
	return e, e.watchLock()
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
// other iptables-legacy either.
func (e *events) watchLock() error {
	lock, err := os.OpenFile(lockFile, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil
	}
	_ = lock.Close()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil // the machine has no more of them: looking now and then will do
	}
	e.lock = os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, lockFile, unix.IN_CLOSE); err != nil {
		return fmt.Errorf("watch %s: %w", lockFile, err)
	}
	return nil
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
	tell := func() {
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
				_, err := c.Receive()
				switch {
				case ctx.Err() != nil:
					return nil
				case err != nil && !errors.Is(err, unix.ENOBUFS): // which is one event more
					return fmt.Errorf("receive netlink events: %w", err)
				}
				tell()
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
				tell()
			}
		})
	}
	return tasks.Wait()
}

// Watch puts our rules back whenever another program has changed them, and follows
// the bridges of others, as long as a ruleset is applied. It returns nil when ctx ends.
func (f *Firewall) Watch(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	changed := make(chan struct{}, 1)
	tasks.Go(func() error { return f.events.run(ctx, changed) })
	tasks.Go(func() error {
		// What was removed before we listened is looked for at once.
		for wait := time.Duration(0); ; {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil
			case <-timer.C:
			}
			select {
			case <-changed:
			default:
			}
			if err := f.check(ctx); err != nil && ctx.Err() == nil {
				f.log.Error("firewall: cannot restore our rules", "err", err, "retry_in", retryTime)
				wait = retryTime
				continue
			}
			if wait = f.next(ctx, changed); wait < 0 {
				return nil
			}
		}
	})
	return tasks.Wait()
}

// next waits for an event, or until it is time to look, and says how long to wait
// after it; less than 0: ctx has ended.
func (f *Firewall) next(ctx context.Context, changed <-chan struct{}) time.Duration {
	var look <-chan time.Time
	if f.events.look > 0 {
		timer := time.NewTimer(f.events.look)
		defer timer.Stop()
		look = timer.C
	}
	select {
	case <-ctx.Done():
		return -1
	case <-look:
		return 0
	case <-changed:
		return settleTime
	}
}

// check puts right what is not as applied.
func (f *Firewall) check(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.applied == nil {
		return nil
	}
	bridges, err := otherBridges(ctx, f.links, *f.applied)
	if err != nil {
		return err
	}
	if !slices.Equal(bridges, f.bridges) {
		f.log.Debug("firewall: other bridges", "bridges", bridges)
	}
	return f.apply(ctx, *f.applied, false)
}
