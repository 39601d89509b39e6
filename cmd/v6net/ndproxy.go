package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/v6net/v6net/internal/kernel/route"
	"github.com/v6net/v6net/internal/kernel/watch"
	"github.com/v6net/v6net/internal/metrics"
	"github.com/v6net/v6net/ndproxy"
)

type ndproxyCommand struct {
	Interface   []string `help:"The interface to answer on; may be repeated." placeholder:"IF" sep:"none"`
	Prefix      []string `help:"What to answer for: all of it or, with --addresses, those of its addresses." placeholder:"PREFIX"`
	Addresses   string   `help:"A file of addresses, one a line, or - for standard input. It is read again when it changes." placeholder:"FILE"`
	NDPPDConfig string   `name:"ndppd-config" help:"Answer for the static rules of an ndppd.conf. It is read again when it changes." placeholder:"FILE"`
	Metrics     string   `help:"Where to serve metrics for Prometheus and /healthz: unix:///PATH, or a port of loopback. Empty: nowhere." env:"V6NET_METRICS" placeholder:"ADDRESS"`
	LogLevel    string   `help:"error, warn, info or debug." default:"info" env:"V6NET_LOG_LEVEL"`
	LogFormat   string   `help:"text or json." default:"text" enum:"text,json" env:"V6NET_LOG_FORMAT"`

	Proxy proxyFlags `embed:"" envprefix:"V6NET_NDPROXY_"`
}

// Validate is kong's.
func (c *ndproxyCommand) Validate() error {
	switch {
	case c.NDPPDConfig == "" && len(c.Interface) == 0:
		return errors.New("--interface or --ndppd-config is needed")
	case len(c.Interface) == 0 && (len(c.Prefix) > 0 || c.Addresses != ""):
		return errors.New("--prefix and --addresses need --interface")
	case len(c.Interface) > 0 && c.NDPPDConfig != "" && len(c.Prefix) == 0 && c.Addresses == "":
		return errors.New("--ndppd-config names its interfaces itself: --interface goes with --prefix and --addresses")
	case len(c.Interface) > 0 && len(c.Prefix) == 0 && c.Addresses == "":
		return errors.New("--interface needs --prefix or --addresses: what to answer for")
	}
	return checkMetrics(c.Metrics)
}

// Run answers until it is told to stop. SIGHUP has the files read again, SIGUSR1
// has the counters printed. It listens for both, and for changes of the files,
// before it reads them: nothing that comes while it starts is lost.
func (c *ndproxyCommand) Run(ctx context.Context) (err error) {
	again, count := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	defer signal.Stop(again)
	signal.Notify(count, syscall.SIGUSR1)
	defer signal.Stop(count)
	log, closeLog, err := newLog(os.Stderr, c.LogLevel, c.LogFormat)
	if err != nil {
		return err
	}
	defer closeLog()
	lines := metrics.NewLines()
	log = lines.Count(log)
	a := &aloneProxy{command: c, log: log, lines: lines, denied: make(chan error, 1)}
	a.proxy = ndproxy.NewSupervisor(a.dial, c.Proxy.knobs(), log)
	for _, path := range []string{c.Addresses, c.NDPPDConfig} {
		if path == "" || path == "-" {
			continue
		}
		file, err := watch.OpenFile(path)
		if err != nil {
			return errors.Join(err, a.close())
		}
		a.files = append(a.files, file)
	}
	if a.routes, err = route.New(); err != nil {
		return errors.Join(err, a.close())
	}
	if c.Addresses == "-" {
		if a.stdin, err = io.ReadAll(os.Stdin); err != nil {
			return errors.Join(fmt.Errorf("read addresses from standard input: %w", err), a.close())
		}
	}
	if err := a.load(ctx); err != nil {
		return errors.Join(err, a.close())
	}
	sweepProxies(ctx, log)
	return errors.Join(a.run(ctx, again, count), a.close())
}
