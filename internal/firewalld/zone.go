// Package firewalld has the bridges of networks in a zone of firewalld's own.
//
// firewalld refuses at the end of its forward chain what it knows nothing of, and no
// accept in another table overrules that. So it is told, by its D-Bus interface, that
// packets to and from these bridges pass: who may reach whom is v6net's own rules' to
// judge, which see them as well. What containers send to the host itself is not among
// that, but for questions to a network's name server.
package firewalld

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

// The zones of our bridges, and the policies for what passes them. Names of zones have
// 17 characters at the most.
const (
	plainZone = "v6net"
	namesZone = "v6net-names" // of networks with a name server
	policyIn  = "v6net-in"
	policyOut = "v6net-out"
)

// nobodies are links that are never there, one in each zone for good: when a zone loses
// its last link firewalld 1.3 takes out all that a policy of it does (_interface in
// firewall/core/fw_zone.py), though other zones of that policy have links, which are cut
// off then.
var nobodies = map[string]string{plainZone: "v6net-none", namesZone: "v6net-no-names"}

// firewalld's names on the bus.
const (
	name       = "org.fedoraproject.FirewallD1"
	path       = dbus.ObjectPath("/org/fedoraproject/FirewallD1")
	configPath = path + "/config"
	busName    = "org.freedesktop.DBus"
)

// retryTime is the wait after something that failed.
const retryTime = 10 * time.Second

// Keeper keeps the bridges in their zones, whenever firewalld starts or is reloaded.
type Keeper struct {
	log     *slog.Logger
	connect func(context.Context) (*dbus.Conn, error)

	changed chan struct{}
	// told is what has been logged, and need not be again: by bridge in whose zone it is, and
	// by the empty name what a reload would lose.
	told map[string]string

	mu     sync.Mutex
	wanted map[string][]string // bridges, by their zone; nil: that is not known yet
}

// NewKeeper uses the bus at an address, as D-Bus writes it; empty: the system's.
func NewKeeper(bus string, log *slog.Logger) *Keeper {
	return &Keeper{log: log, changed: make(chan struct{}, 1), told: map[string]string{}, connect: func(ctx context.Context) (*dbus.Conn, error) {
		if bus == "" {
			return dbus.ConnectSystemBus(dbus.WithContext(ctx))
		}
		return dbus.Connect(bus, dbus.WithContext(ctx))
	}}
}

// Keep says which bridges there are, all of them, and on which a name server answers.
// It does not wait for firewalld.
func (k *Keeper) Keep(plain, names []string) {
	wanted := map[string][]string{plainZone: plain, namesZone: names}
	k.mu.Lock()
	same := k.wanted != nil && maps.EqualFunc(k.wanted, wanted, slices.Equal)
	k.wanted = wanted
	k.mu.Unlock()
	if same {
		return
	}
	select {
	case k.changed <- struct{}{}:
	default: // it will be looked at
	}
}

// Run tells firewalld, until ctx ends. A host without the bus has no firewalld: it may get
// both, and is asked again when the bridges change.
func (k *Keeper) Run(ctx context.Context) error {
	for met := false; ; {
		conn, err := k.connect(ctx)
		if err == nil {
			met = true
			err = k.serve(ctx, conn)
		}
		if ctx.Err() != nil {
			return nil
		}
		if !met {
			k.log.Debug("firewalld: no D-Bus here", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-k.changed:
			}
			continue
		}
		k.log.Warn("firewalld", "err", err, "retry_in", retryTime)
		if !wait(ctx, retryTime) {
			return nil
		}
	}
}

// serve is Run on one connection to the bus.
func (k *Keeper) serve(ctx context.Context, conn *dbus.Conn) error {
	defer func() { _ = conn.Close() }()
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchInterface(busName), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)},
		{dbus.WithMatchInterface(name), dbus.WithMatchMember("Reloaded")},
		{dbus.WithMatchInterface(name + ".zone")}, // an administrator moves a bridge
	} {
		if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("listen for firewalld: %w", err)
		}
	}
	again := time.NewTimer(0) // once at the beginning
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-signals:
			if !open {
				return errors.New("the connection to D-Bus has ended")
			}
		case <-k.changed:
		case <-again.C:
		}
		for len(signals) > 0 { // our own changes are among them
			<-signals
		}
		if err := k.apply(ctx, conn); err != nil {
			k.log.Warn("firewalld: the bridges' zone", "err", err, "retry_in", retryTime)
			again.Reset(retryTime)
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// apply makes firewalld, if it runs, have the bridges in their zones.
func (k *Keeper) apply(ctx context.Context, conn *dbus.Conn) error {
	var runs bool
	if err := conn.BusObject().CallWithContext(ctx, busName+".NameHasOwner", 0, name).Store(&runs); err != nil {
		return fmt.Errorf("ask whether it runs: %w", err)
	}
	if !runs {
		return nil // it says so when it does
	}
	k.mu.Lock()
	wanted := k.wanted // never changed in place
	k.mu.Unlock()
	f := daemon{ctx, conn}
	if wanted == nil {
		return nil
	}
	known, err := f.knowsZones()
	if err != nil {
		return err
	}
	if !known {
		if len(wanted[plainZone])+len(wanted[namesZone]) == 0 {
			return nil
		}
		if known, err = k.introduce(f); err != nil || !known {
			return err
		}
	}
	var errs []error
	for _, zone := range []string{plainZone, namesZone} {
		errs = append(errs, k.fill(f, zone, slices.Concat([]string{nobodies[zone]}, wanted[zone])))
	}
	return errors.Join(errs...)
}

// introduce makes firewalld know the zones, by a reload. That forgets what was set at run
// time alone, a ban of fail2ban's say: where there is such a thing it is left to an
// administrator when to do it.
func (k *Keeper) introduce(f daemon) (known bool, err error) {
	if err := f.makeZones(); err != nil {
		return false, err
	}
	passing, err := f.passing()
	if err != nil {
		return false, err
	}
	if len(passing) > 0 {
		if would := strings.Join(passing, ", "); k.told[""] != would {
			k.told[""] = would
			k.log.Warn("firewalld: it has to be reloaded to know v6net's zones, and cuts containers off until then; v6net does not do it, since what was set at run time alone would be lost",
				"would_lose", would, "fix", "firewall-cmd --reload; or, to keep that for good, firewall-cmd --runtime-to-permanent before it")
		}
		return false, nil
	}
	delete(k.told, "")
	k.log.Info("firewalld: reloading it, so that it knows the zones and policies for containers' networks; nothing was set at run time alone", "zones", []string{plainZone, namesZone}, "policies", []string{policyIn, policyOut})
	return true, f.reload()
}

// daemon is firewalld on the bus.
type daemon struct {
	ctx  context.Context //nolint:containedctx // of one apply
	conn *dbus.Conn
}

// call calls a method of an interface below firewalld's own.
func (d daemon) call(at dbus.ObjectPath, method string, answer any, args ...any) error {
	c := d.conn.Object(name, at).CallWithContext(d.ctx, name+method, 0, args...)
	err := c.Err
	if err == nil && answer != nil {
		err = c.Store(answer)
	}
	if err != nil {
		return fmt.Errorf("%s%v: %w", strings.TrimPrefix(method, "."), args, err)
	}
	return nil
}

// settings are the zones and policies as firewalld keeps them.
func settings() (zones, policies map[string]map[string]dbus.Variant) {
	v := dbus.MakeVariant
	both := []string{plainZone, namesZone}
	about := "containers' networks of v6net, whose own rules say who reaches them; made and removed by it"
	zones = map[string]map[string]dbus.Variant{
		plainZone: {"short": v("v6net"), "description": v(about)},
		namesZone: {"short": v("v6net, with names"), "description": v(about), "services": v([]string{"dns"})},
	}
	policies = map[string]map[string]dbus.Variant{
		policyIn:  {"short": v("to v6net"), "description": v(about), "ingress_zones": v([]string{"ANY"}), "egress_zones": v(both), "target": v("ACCEPT")},
		policyOut: {"short": v("from v6net"), "description": v(about), "ingress_zones": v(both), "egress_zones": v([]string{"ANY"}), "target": v("ACCEPT")},
	}
	return zones, policies
}

// knowsZones reports whether firewalld runs with the zones and policies.
func (d daemon) knowsZones() (bool, error) {
	zones, err := d.zones()
	if err != nil {
		return false, err
	}
	var policies []string
	if err := d.call(path, ".policy.getPolicies", &policies); err != nil {
		return false, err
	}
	for _, name := range []string{plainZone, namesZone} {
		if !slices.Contains(zones, name) {
			return false, nil
		}
	}
	return slices.Contains(policies, policyIn) && slices.Contains(policies, policyOut), nil
}

// makeZones makes those that are missing in what firewalld keeps: at run time none can be
// made. They stay there, since they do nothing while no bridge is in them, and those that
// are there stay as they are, with what an administrator has added.
func (d daemon) makeZones() error {
	zones, policies := settings()
	for _, kind := range []struct {
		list, add string
		settings  map[string]map[string]dbus.Variant
	}{
		{".config.getZoneNames", ".config.addZone2", zones},
		{".config.getPolicyNames", ".config.addPolicy", policies}, // after the zones that they are about
	} {
		var have []string
		if err := d.call(configPath, kind.list, &have); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(kind.settings)) {
			if slices.Contains(have, name) {
				continue
			}
			if err := d.call(configPath, kind.add, nil, name, kind.settings[name]); err != nil {
				return err
			}
		}
	}
	return nil
}

// zones are those that firewalld runs with.
func (d daemon) zones() (zones []string, err error) {
	err = d.call(path, ".zone.getZones", &zones)
	return zones, err
}

// fill has exactly these bridges in a zone. One that an administrator has put into
// another zone stays there, which is said once; status says whether that cuts it off.
func (k *Keeper) fill(d daemon, zone string, bridges []string) error {
	var has []string
	if err := d.call(path, ".zone.getInterfaces", &has, zone); err != nil {
		return err
	}
	var errs []error
	for _, b := range has {
		if !slices.Contains(bridges, b) {
			errs = append(errs, d.call(path, ".zone.removeInterface", nil, zone, b))
		}
	}
	for _, b := range bridges {
		if slices.Contains(has, b) {
			continue
		}
		var in string
		if err := d.call(path, ".zone.getZoneOfInterface", &in, b); err != nil {
			errs = append(errs, err)
			continue
		}
		switch in {
		case "":
			errs = append(errs, d.call(path, ".zone.addInterface", nil, zone, b))
		case plainZone, namesZone: // of a network that was there before
			errs = append(errs, d.call(path, ".zone.changeZoneOfInterface", nil, zone, b))
		default:
			if k.told[b] != in {
				k.log.Warn("firewalld: a bridge is in a zone where somebody else has put it, and stays there: containers behind it are cut off unless that zone lets them through", "bridge", b, "zone", in,
					"fix", fmt.Sprintf("firewall-cmd --zone=%s --change-interface=%s", zone, b))
			}
			k.told[b] = in
			continue
		}
		delete(k.told, b)
	}
	return errors.Join(errs...)
}
