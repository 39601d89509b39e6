package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"

	"github.com/v6net/v6net/driver"
	"github.com/v6net/v6net/internal/clock"
	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/engine"
	"github.com/v6net/v6net/internal/event"
	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/firewalld"
	"github.com/v6net/v6net/internal/kernel/conntrack"
	"github.com/v6net/v6net/internal/kernel/icmp6"
	"github.com/v6net/v6net/internal/kernel/link"
	"github.com/v6net/v6net/internal/kernel/ndbpf"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/kernel/nflog"
	"github.com/v6net/v6net/internal/kernel/raguard"
	"github.com/v6net/v6net/internal/kernel/route"
	"github.com/v6net/v6net/internal/kernel/sandbox"
	"github.com/v6net/v6net/internal/kernel/sysctl"
	"github.com/v6net/v6net/internal/kernel/watch"
	"github.com/v6net/v6net/internal/metrics"
	"github.com/v6net/v6net/internal/netavark"
	"github.com/v6net/v6net/internal/prefix/sources"
	"github.com/v6net/v6net/internal/ra"
	"github.com/v6net/v6net/internal/store"
	"github.com/v6net/v6net/ndproxy"
)

// claimName keeps a second daemon out of the same network namespace: each would
// sweep the other's links away.
const claimName = "v6net"

type daemonCommand struct {
	State         string     `help:"The journal." default:"/var/lib/v6net/v6net.db" env:"V6NET_STATE" placeholder:"FILE"`
	PluginSocket  string     `help:"Where Docker looks for the plugin." default:"/run/docker/plugins/v6net.sock" env:"V6NET_PLUGIN_SOCKET" placeholder:"PATH"`
	ControlSocket string     `help:"Where v6net's own commands reach the daemon." default:"${control_socket}" env:"V6NET_CONTROL_SOCKET" placeholder:"PATH"`
	PodmanFolder  string     `help:"Where Podman keeps its networks: those of v6net that are deleted there are removed. Empty: nothing is." default:"${podman_folder}" env:"V6NET_PODMAN_NETWORKS" placeholder:"DIR"`
	SysctlRoot    string     `help:"Where net/… can be written." default:"/proc/sys" env:"V6NET_SYSCTL_ROOT" placeholder:"DIR"`
	Sandboxes     string     `help:"The folder of containers' network namespaces, if it is not where the container engine says." env:"V6NET_SANDBOXES" placeholder:"DIR"`
	Firewall      string     `help:"What keeps the rules of the firewall: auto, nftables or ip6tables. auto: nftables where the kernel has it." default:"auto" enum:"auto,nftables,ip6tables" env:"V6NET_FIREWALL"`
	LogGroup      uint16     `name:"firewall-log-group" help:"The NFLOG group by which rules tell the daemon what they have denied, of networks with log_denied=on." default:"646" env:"V6NET_FIREWALL_LOG_GROUP" placeholder:"NUMBER"`
	Proxy         proxyFlags `embed:"" prefix:"ndproxy-" envprefix:"V6NET_NDPROXY_"`
	PD            pdFlags    `embed:"" prefix:"pd-" envprefix:"V6NET_PD_"`
	Metrics       string     `help:"Where to serve metrics for Prometheus and /healthz: unix:///PATH, or a port of loopback. Empty: nowhere." env:"V6NET_METRICS" placeholder:"ADDRESS"`

	LogLevel  string `help:"error, warn, info or debug." default:"info" env:"V6NET_LOG_LEVEL"`
	LogFormat string `help:"text or json." default:"text" enum:"text,json" env:"V6NET_LOG_FORMAT"`
}

// Validate is kong's.
func (c *daemonCommand) Validate() error {
	if c.LogGroup == 0 { // which is for whoever names none
		return errors.New("--firewall-log-group: 0 is not allowed (allowed: 1 to 65535)")
	}
	return checkMetrics(c.Metrics)
}

// Run runs the daemon until it is told to stop. What it has set up in the
// kernel stays: containers keep their network while no daemon runs.
func (c daemonCommand) Run(ctx context.Context) (err error) {
	// Docker takes what a plugin writes to stderr for errors.
	log, closeLog, err := newLog(os.Stdout, c.LogLevel, c.LogFormat)
	if err != nil {
		return err
	}
	defer closeLog()
	release, err := netns.Claim(claimName)
	if errors.Is(err, netns.ErrClaimed) {
		return errors.Join(err, refuse(ctx, err))
	}
	if err != nil {
		return err
	}
	if users, err := netns.Intruders(claimName); err != nil || len(users) > 0 {
		log.Warn("users who are not root hold the name by which daemons keep each other out; it is held by another one", "name", "@"+claimName, "users", users, "err", err)
	}
	journal, err := store.Open(c.State)
	if err != nil {
		return errors.Join(err, release())
	}
	defer func() { err = errors.Join(err, journal.Close(), release()) }()

	d, err := c.open(ctx, journal, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	return c.serve(ctx, d, log)
}

// daemon is everything that runs, joined.
type daemon struct {
	engine      *engine.Engine
	ahead       *ndbpf.Spare // for who is asked for while the daemon starts; nil: nobody
	proxy       *ndproxy.Supervisor
	advertisers *ra.Supervisor
	zones       *firewalld.Keeper
	firewall    packetFilter
	sweep       func(context.Context) error // what another firewall of ours has left
	links       *link.Handle
	routes      *route.Handle
	announce    *icmp6.Announcer
	guard       raguard.Guard
	ports       *portGuard
	denials     *nflog.Listener
	sources     *sources.Supervisor
	clock       *clock.Clock
	journal     *store.Store
	lines       *metrics.Lines // of the log
	events      *event.Hub
}

func (c daemonCommand) open(ctx context.Context, journal *store.Store, log *slog.Logger) (d *daemon, err error) {
	lines := metrics.NewLines()
	log = lines.Count(log)
	d = &daemon{lines: lines, events: &event.Hub{}, zones: firewalld.NewKeeper("", log), journal: journal}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	waiting, err := journal.HasEndpoints()
	if err != nil {
		return d, err
	}
	if waiting && c.Proxy.Path != "packet" {
		d.ahead = ndbpf.LoadAhead()
	}
	d.proxy = ndproxy.NewSupervisor(func(ctx context.Context, link string) (ndproxy.Conn, error) {
		return c.Proxy.dialWith(ctx, d.ahead, link)
	}, c.Proxy.knobs(), log)
	boot, err := bootID()
	if err != nil {
		return d, err
	}
	if d.clock, err = openClock(journal, boot); err != nil {
		return d, err
	}
	d.advertisers = ra.NewSupervisor(dialRouter, d.clock.Now, log)
	d.advertisers.Events = d.events
	watchProxy(d.proxy, d.events)
	if d.links, err = link.New(); err != nil {
		return d, err
	}
	if d.routes, err = route.New(); err != nil {
		return d, err
	}
	if d.announce, err = icmp6.NewAnnouncer(); err != nil {
		return d, err
	}
	if d.firewall, d.sweep, err = kernelFilters(log).open(ctx, c.Firewall); err != nil {
		return d, err
	}
	d.ports = &portGuard{log: log, guard: raguard.Guard{Port: true}}
	if d.denials, err = nflog.New(c.LogGroup); err != nil {
		return d, err
	}
	if d.sources, err = newSources(journal, c.PD, boot, d.clock, d.routes, d.lent, log); err != nil {
		return d, err
	}
	var registry engine.Registry
	if c.PodmanFolder != "" {
		registry = netavark.Networks(c.PodmanFolder)
	}
	d.engine, err = engine.New(engine.Config{
		Version:     version,
		BootID:      boot,
		Log:         log,
		Clock:       d.clock,
		Journal:     journal,
		Links:       kernelLinks{d.links, &d.guard, d.ports},
		Sysctls:     sysctl.New(c.SysctlRoot),
		Firewall:    d.firewall,
		Inspector:   d.firewall,
		Zones:       d.zones,
		Denials:     d.denials,
		LogGroup:    c.LogGroup,
		Conntrack:   &conntrack.Table{},
		Host:        host{d.routes, d.announce, d.links},
		Proxy:       d.proxy,
		Advertisers: d.advertisers,
		Registry:    registry,
		Sources:     d.sources,
		Routes:      d.routes,
		Sandboxes:   sandbox.Entrance{Folder: c.Sandboxes, Now: d.clock.Now},
		Events:      d.events,
	})
	return d, err
}

// close gives back what open had opened so far.
func (d *daemon) close() error {
	errs := []error{d.ahead.Close()}
	if d.links != nil {
		d.links.Close()
	}
	if d.routes != nil {
		d.routes.Close()
	}
	if d.announce != nil {
		errs = append(errs, d.announce.Close())
	}
	errs = append(errs, d.guard.Close())
	if d.ports != nil {
		errs = append(errs, d.ports.guard.Close())
	}
	if d.firewall != nil {
		errs = append(errs, d.firewall.Close())
	}
	if d.denials != nil {
		errs = append(errs, d.denials.Close())
	}
	return errors.Join(errs...)
}

// serve replays the journal, and only then opens the sockets: a call that came
// before would meet half a world. The container engine retries meanwhile.
func (c daemonCommand) serve(ctx context.Context, d *daemon, log *slog.Logger) (err error) {
	log = d.lines.Count(log)
	tasks, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		err = errors.Join(err, tasks.Wait())
	}()
	began := time.Now()
	events, err := watch.Subscribe(log) // before the replay, so that nothing which changes meanwhile is missed
	if err != nil {
		return err
	}
	clockWatch, err := watch.OpenClock()
	if err != nil {
		return errors.Join(err, events.Close())
	}
	sweepProxies(ctx, log)
	tasks.Go(func() error { return d.proxy.Run(ctx) })
	tasks.Go(func() error { return d.advertisers.Run(ctx) })
	if err := d.engine.Replay(ctx); err != nil {
		return errors.Join(fmt.Errorf("start: %w", err), events.Close(), clockWatch.Close())
	}
	tasks.Go(func() error {
		// What is answered for has its link by now, or has to wait for one.
		if err := d.ahead.Close(); err != nil {
			log.Warn("proxying neighbor discovery: what was loaded ahead and nobody has taken", "err", err)
		}
		return nil
	})
	if err := d.sweep(ctx); err != nil { // after the new rules are in place
		log.Error("firewall: rules of an earlier daemon's cannot be removed", "err", err)
	}
	tasks.Go(func() error { return d.sources.Run(ctx) })
	tasks.Go(func() error { return events.Run(ctx, d.observe(ctx)) })
	doubt := d.clock.Doubt()
	tasks.Go(func() error { return clockWatch.Run(ctx, func() { d.clockChanged(ctx, doubt, log) }) })
	plugin, operator, err := c.listen()
	if err != nil {
		return err
	}
	calls := metrics.NewCalls()
	if c.Metrics != "" {
		tasks.Go(func() error { return metrics.Keep(ctx, c.Metrics, d.engine.Summary, log, calls, d.lines) })
	}
	log.Info("ready", "version", version, "replay", time.Since(began).Round(time.Millisecond), "plugin", c.PluginSocket, "control", c.ControlSocket)
	tasks.Go(func() error { return d.engine.Run(ctx) })
	tasks.Go(func() error { return d.firewall.Watch(ctx) })
	tasks.Go(func() error { return d.zones.Run(ctx) })
	tasks.Go(func() error {
		// Nobody loses his network because a log has ended.
		if err := d.denials.Run(ctx, func(r firewall.Refusal) { d.engine.Denied(ctx, r) }); err != nil {
			log.Error("firewall: denied packets are no longer logged", "err", err)
		}
		return nil
	})
	docker := driver.New(d.engine, log)
	docker.Record = func(method string, took time.Duration, failed bool) {
		calls.Record(metrics.Docker, method, took, failed)
	}
	tasks.Go(func() error { return docker.Serve(ctx, plugin) })
	tasks.Go(func() error { return control.Serve(ctx, operator, timedEngine{d.engine, calls}, d.events, log) })
	if c.PodmanFolder != "" {
		podman := folderWatch{folder: c.PodmanFolder, changed: d.engine.RegistryChanged, log: log, open: fsnotify.NewWatcher}
		tasks.Go(func() error { return podman.run(ctx) })
	}
	if err := notifyReady(); err != nil {
		log.Warn("started by systemd", "err", err)
	}
	<-ctx.Done()
	log.Info("stopping; networks stay as they are")
	return nil
}

// refuse answers those for whom systemd has started this daemon: while they wait it would
// start the next one.
func refuse(ctx context.Context, why error) error {
	given, err := handedOver()
	if err != nil {
		return err
	}
	var tasks errgroup.Group
	for _, l := range given {
		tasks.Go(func() error { return control.Refuse(ctx, l, why) })
	}
	return tasks.Wait()
}

// listen opens the sockets, or takes those that systemd has opened: calls that came
// before this wait in them.
func (c daemonCommand) listen() (plugin, operator net.Listener, err error) {
	given, err := handedOver()
	if err != nil {
		return nil, nil, err
	}
	var ok bool
	if plugin, ok = given[pluginListener]; !ok {
		if plugin, err = driver.Listen(c.PluginSocket); err != nil {
			return nil, nil, err
		}
	}
	if operator, ok = given[controlListener]; !ok {
		if operator, err = control.Listen(c.ControlSocket); err != nil {
			return nil, nil, errors.Join(err, plugin.Close())
		}
	}
	return plugin, operator, nil
}
