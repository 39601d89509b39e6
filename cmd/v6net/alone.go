package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/v6net/v6net/internal/kernel/watch"
	"github.com/v6net/v6net/internal/metrics"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ndproxy"
)

// aloneProxy is the NDP proxy without a daemon.
type aloneProxy struct {
	command *ndproxyCommand
	log     *slog.Logger
	proxy   *ndproxy.Supervisor
	files   []*watch.File // those that are read
	routes  routes
	stdin   []byte
	now     wanted         // what is answered for
	denied  chan error     // holds one: why no link can be opened
	lines   *metrics.Lines // of the log
}

// dial opens a link. What this process may not do it may not do later, either.
func (a *aloneProxy) dial(ctx context.Context, link string) (ndproxy.Conn, error) {
	conn, err := a.command.Proxy.dial(ctx, link)
	if errors.Is(err, fs.ErrPermission) {
		select {
		case a.denied <- fmt.Errorf("answer on %s: %w; run it as root, or with CAP_NET_ADMIN, CAP_NET_RAW and, for eBPF, CAP_BPF", link, err):
		default:
		}
	}
	return conn, err
}

// routes are what neighbours on a link ask for (internal/kernel/route).
type routes interface {
	// Routers are the next hops of its default routes.
	Routers(ctx context.Context, link string) ([]netip.Addr, error)
	// OnLink are the prefixes that are on it.
	OnLink(ctx context.Context, link string) ([]netip.Prefix, error)
	Close()
}

func (a *aloneProxy) close() error {
	var errs []error
	for _, f := range a.files {
		if err := f.Close(); !errors.Is(err, os.ErrClosed) { // by its Run
			errs = append(errs, err)
		}
	}
	if a.routes != nil {
		a.routes.Close()
	}
	return errors.Join(errs...)
}

func (a *aloneProxy) run(ctx context.Context, again, count <-chan os.Signal) error {
	events, err := watch.Subscribe(a.log)
	if err != nil {
		return err
	}
	changed, routed := make(chan struct{}, 1), make(chan struct{}, 1)
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return a.proxy.Run(ctx) })
	if a.command.Metrics != "" {
		tasks.Go(func() error { return metrics.Keep(ctx, a.command.Metrics, a.status, a.log, a.lines) })
	}
	tasks.Go(func() error { return events.Run(ctx, func(ev watch.Event) { a.observe(ev, routed) }) })
	for _, file := range a.files {
		tasks.Go(func() error { return file.Run(ctx, func() { wake(changed) }) })
	}
	tasks.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case err := <-a.denied:
				return err
			case <-changed:
				a.reload(ctx)
			case <-again:
				a.reload(ctx)
			case <-routed:
				a.leaveRouters(ctx)
			case <-count:
				if err := a.print(os.Stdout); err != nil {
					a.log.Warn("counters not printed", "err", err)
				}
			}
		}
	})
	return tasks.Wait()
}

// status is what there is to measure: counters, and no addresses.
func (a *aloneProxy) status(context.Context) spec.Status {
	return spec.Status{Version: version, Proxies: a.proxy.Summary()}
}

// wake does not block: one that is pending will be acted on after now.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// observe passes on what the kernel says of links and default routes.
func (a *aloneProxy) observe(ev watch.Event, routed chan<- struct{}) {
	switch {
	case ev.Kind == watch.Resync:
		for _, link := range a.proxy.Links() {
			a.proxy.LinkChanged(link)
		}
		wake(routed)
	case ev.Kind == watch.Link, ev.Kind == watch.Address && ev.Prefix.Addr().IsLinkLocalUnicast():
		a.proxy.LinkChanged(ev.Link)
	case ev.Kind == watch.Route && ev.Prefix.Bits() == 0 && !ev.Deleted:
		wake(routed)
	}
}

// reload keeps what is there when the files are wrong.
func (a *aloneProxy) reload(ctx context.Context) {
	if err := a.load(ctx); err != nil {
		a.log.Error("not read again; what was answered for still is", "err", err)
	}
}

// load reads what is wanted, and makes it so.
func (a *aloneProxy) load(ctx context.Context) error {
	began := time.Now()
	next, err := a.command.read(a.stdin)
	if err != nil {
		return err
	}
	for target := range next.prefixes {
		if err := a.checkRouters(ctx, target); err != nil {
			return err
		}
	}
	for link, addrs := range next.addresses {
		found, err := a.routersAmong(ctx, link, addrs)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return fmt.Errorf("address %s: it is that of a router on %s, which is not to be answered for; leave it out of the list", found[0], link)
		}
	}
	// First what is new: a link that has nothing left to answer for is closed.
	for target := range next.prefixes {
		a.proxy.AddPrefix(target.link, target.prefix)
	}
	count := 0
	gone := make(map[string][]netip.Addr)
	for link, addrs := range next.addresses {
		var come []netip.Addr
		come, gone[link] = differences(a.now.addresses[link], addrs)
		a.proxy.AddAll(link, come)
		count += len(addrs)
	}
	for link, addrs := range a.now.addresses {
		if _, still := next.addresses[link]; !still {
			gone[link] = addrs
		}
	}
	for link, addrs := range gone {
		for _, addr := range addrs {
			a.proxy.Remove(link, addr)
		}
	}
	for target := range a.now.prefixes {
		if !next.prefixes[target] {
			a.proxy.RemovePrefix(target.link, target.prefix)
		}
	}
	a.warnUnasked(ctx, next)
	a.now = next
	a.log.Info("answering for", "addresses", count, "prefixes", len(next.prefixes), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// warnUnasked tells of new prefixes that nobody may ever ask for: neighbours ask for what is
// on their link (RFC 4861 §7.2.2), and send all else to a router, which has to know the way.
func (a *aloneProxy) warnUnasked(ctx context.Context, next wanted) {
	for target := range next.prefixes {
		has, err := a.routes.OnLink(ctx, target.link)
		if a.now.prefixes[target] || err != nil || len(has) == 0 || slices.ContainsFunc(has, target.prefix.Overlaps) {
			continue // or the host has single addresses alone, which say nothing
		}
		a.log.Warn("prefix is on no prefix of its link: neighbours there ask for it only if they were told that it is on-link, and else its router needs a route to this host",
			"prefix", target.prefix, "link", target.link, "on_link", has)
	}
}

// checkRouters refuses a prefix that a router of the link has its address in: the
// link's hosts would be told that it is here.
func (a *aloneProxy) checkRouters(ctx context.Context, target linkPrefix) error {
	found, err := a.routersOf(ctx, target.link)
	if err != nil {
		return err
	}
	for _, r := range found {
		if target.prefix.Contains(r) {
			return fmt.Errorf("prefix %s: it holds %s, the router on %s, which is not to be answered for; "+
				"allowed is a prefix without it, or a list of addresses (--addresses)", target.prefix, r, target.link)
		}
	}
	return nil
}

// routersAmong are those of addresses in order that are a router's on their link.
func (a *aloneProxy) routersAmong(ctx context.Context, link string, addrs []netip.Addr) ([]netip.Addr, error) {
	found, err := a.routersOf(ctx, link)
	return slices.DeleteFunc(found, func(r netip.Addr) bool {
		_, among := slices.BinarySearchFunc(addrs, r, netip.Addr.Compare)
		return !among
	}), err
}

// routersOf are a link's. One that is not there has none: they are looked at again
// when a route comes.
func (a *aloneProxy) routersOf(ctx context.Context, link string) ([]netip.Addr, error) {
	found, err := a.routes.Routers(ctx, link)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return found, err
}

// leaveRouters ends the answering for what a router has come into.
func (a *aloneProxy) leaveRouters(ctx context.Context) {
	for target := range a.now.prefixes {
		if err := a.checkRouters(ctx, target); err != nil {
			a.proxy.RemovePrefix(target.link, target.prefix)
			delete(a.now.prefixes, target)
			a.log.Error("a prefix is answered for no more", "link", target.link, "err", err)
		}
	}
	for link, addrs := range a.now.addresses {
		found, err := a.routersAmong(ctx, link, addrs)
		if err != nil {
			a.log.Error("what is answered for is not held against the routers", "link", link, "err", err)
		}
		for _, r := range found {
			a.proxy.Remove(link, r)
			addrs = slices.DeleteFunc(slices.Clone(addrs), func(addr netip.Addr) bool { return addr == r })
			a.log.Error("an address is answered for no more: it is that of a router", "link", link, "address", r)
		}
		a.now.addresses[link] = addrs
	}
}

// print writes counters, and no addresses: there may be a million.
func (a *aloneProxy) print(w io.Writer) error {
	var out page
	p := out.printf
	all := a.proxy.Summary()
	if len(all) == 0 {
		p("nothing is answered for")
	}
	for _, s := range all {
		printProxy(p, s)
	}
	return out.print(w, screen{})
}
