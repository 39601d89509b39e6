package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/v6net/v6net/internal/kernel/watch"
	"github.com/v6net/v6net/internal/ndppd"
	"github.com/v6net/v6net/ndproxy"
)

type ndproxyCommand struct {
	Interface   string   `help:"The interface to answer on." placeholder:"IF"`
	Prefix      []string `help:"What to answer for: all of it or, with --addresses, those of its addresses." placeholder:"PREFIX"`
	Addresses   string   `help:"A file of addresses, one a line, or - for standard input. It is read again when it changes." placeholder:"FILE"`
	NDPPDConfig string   `name:"ndppd-config" help:"Answer for the static rules of an ndppd.conf. It is read again when it changes." placeholder:"FILE"`
	LogLevel    string   `help:"error, warn, info or debug." default:"info" env:"V6NET_LOG_LEVEL"`
	LogFormat   string   `help:"text or json." default:"text" enum:"text,json" env:"V6NET_LOG_FORMAT"`

	Proxy proxyFlags `embed:"" envprefix:"V6NET_NDPROXY_"`
}

// Validate is kong's.
func (c *ndproxyCommand) Validate() error {
	switch {
	case c.NDPPDConfig == "" && c.Interface == "":
		return errors.New("--interface or --ndppd-config is needed")
	case c.Interface == "" && (len(c.Prefix) > 0 || c.Addresses != ""):
		return errors.New("--prefix and --addresses need --interface")
	case c.Interface != "" && len(c.Prefix) == 0 && c.Addresses == "":
		return errors.New("--interface needs --prefix or --addresses: what to answer for")
	}
	return nil
}

// Run answers until it is told to stop. SIGHUP has the files read again, SIGUSR1
// has the counters printed.
func (c *ndproxyCommand) Run(ctx context.Context) (err error) {
	log, err := newLog(os.Stderr, c.LogLevel, c.LogFormat)
	if err != nil {
		return err
	}
	a := &aloneProxy{command: c, log: log, proxy: ndproxy.NewSupervisor(c.Proxy.dial, c.Proxy.knobs(), log)}
	if c.Addresses == "-" {
		if a.stdin, err = io.ReadAll(os.Stdin); err != nil {
			return fmt.Errorf("read addresses from standard input: %w", err)
		}
	}
	if err := a.load(); err != nil {
		return err
	}
	return a.run(ctx)
}

// aloneProxy is the NDP proxy without a daemon.
type aloneProxy struct {
	command *ndproxyCommand
	log     *slog.Logger
	proxy   *ndproxy.Supervisor
	stdin   []byte
	now     wanted // what is answered for
}

func (a *aloneProxy) run(ctx context.Context) (err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)
	events, err := watch.Subscribe(a.log)
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return a.proxy.Run(ctx) })
	tasks.Go(func() error { return events.Run(ctx, a.observe) })
	for _, path := range []string{a.command.Addresses, a.command.NDPPDConfig} {
		if path != "" && path != "-" {
			tasks.Go(func() error {
				return watch.File(ctx, path, func() {
					select {
					case changed <- struct{}{}:
					default:
					}
				})
			})
		}
	}
	tasks.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-changed:
				a.reload()
			case s := <-signals:
				if s == syscall.SIGHUP {
					a.reload()
				} else if err := a.print(os.Stdout); err != nil {
					a.log.Warn("counters not printed", "error", err)
				}
			}
		}
	})
	return tasks.Wait()
}

// observe passes on what the kernel says of links.
func (a *aloneProxy) observe(ev watch.Event) {
	switch {
	case ev.Kind == watch.Resync:
		for _, s := range a.proxy.Status() {
			a.proxy.LinkChanged(s.Parent)
		}
	case ev.Kind == watch.Link, ev.Kind == watch.Address && ev.Prefix.Addr().IsLinkLocalUnicast():
		a.proxy.LinkChanged(ev.Link)
	}
}

// reload keeps what is there when the files are wrong.
func (a *aloneProxy) reload() {
	if err := a.load(); err != nil {
		a.log.Error("not read again; what was answered for still is", "error", err)
	}
}

// load reads what is wanted, and makes it so.
func (a *aloneProxy) load() error {
	began := time.Now()
	next, err := a.read()
	if err != nil {
		return err
	}
	// First what is new: a link that has nothing left to answer for is closed.
	for target := range next.prefixes {
		a.proxy.AddPrefix(target.link, target.prefix)
	}
	count := 0
	for link, addrs := range next.addresses {
		a.proxy.AddAll(link, slices.AppendSeq(make([]netip.Addr, 0, len(addrs)), maps.Keys(addrs)))
		count += len(addrs)
	}
	for link, addrs := range a.now.addresses {
		for addr := range addrs {
			if !next.addresses[link][addr] {
				a.proxy.Remove(link, addr)
			}
		}
	}
	for target := range a.now.prefixes {
		if !next.prefixes[target] {
			a.proxy.RemovePrefix(target.link, target.prefix)
		}
	}
	a.now = next
	a.log.Info("answering for", "addresses", count, "prefixes", len(next.prefixes), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

type wanted struct {
	addresses map[string]map[netip.Addr]bool // by link
	prefixes  map[linkPrefix]bool
}

type linkPrefix struct {
	link   string
	prefix netip.Prefix
}

func (a *aloneProxy) read() (wanted, error) {
	c := a.command
	w := wanted{make(map[string]map[netip.Addr]bool), make(map[linkPrefix]bool)}
	prefixes, err := parsePrefixes(c.Prefix)
	if err != nil {
		return w, err
	}
	if c.Addresses == "" {
		for _, p := range prefixes {
			w.prefixes[linkPrefix{c.Interface, p}] = true
		}
	} else {
		text := a.stdin
		if c.Addresses != "-" {
			if text, err = os.ReadFile(c.Addresses); err != nil {
				return w, fmt.Errorf("read addresses: %w", err)
			}
		}
		addrs := make(map[netip.Addr]bool, bytes.Count(text, []byte("\n")))
		w.addresses[c.Interface] = addrs
		if err := parseAddresses(text, prefixes, func(addr netip.Addr) { addrs[addr] = true }); err != nil {
			return w, fmt.Errorf("addresses of %s: %w", c.Addresses, err)
		}
	}
	if c.NDPPDConfig == "" {
		return w, nil
	}
	file, err := os.Open(c.NDPPDConfig)
	if err != nil {
		return w, fmt.Errorf("read ndppd's configuration: %w", err)
	}
	defer func() { _ = file.Close() }()
	rules, err := ndppd.Parse(file)
	if err != nil {
		return w, fmt.Errorf("%s: %w", c.NDPPDConfig, err)
	}
	for _, r := range rules {
		if r.Prefix.IsSingleIP() {
			if w.addresses[r.Interface] == nil {
				w.addresses[r.Interface] = make(map[netip.Addr]bool)
			}
			w.addresses[r.Interface][r.Prefix.Addr()] = true
		} else {
			w.prefixes[linkPrefix{r.Interface, r.Prefix}] = true
		}
	}
	return w, nil
}

// print writes counters, and no addresses: there may be a million.
func (a *aloneProxy) print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	p := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) } //nolint:errcheck // Flush reports it
	for _, s := range a.proxy.Status() {
		printProxy(p, s)
	}
	return out.Flush()
}
