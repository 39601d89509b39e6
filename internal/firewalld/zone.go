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
	mu      sync.Mutex
	wanted  map[string][]string // bridges, by their zone; nil: that is not known yet
}

// NewKeeper uses the bus at an address, as D-Bus writes it; empty: the system's.
func NewKeeper(bus string, log *slog.Logger) *Keeper {
	return &Keeper{log: log, changed: make(chan struct{}, 1), connect: func(ctx context.Context) (*dbus.Conn, error) {
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

// Run tells firewalld, until ctx ends. A host without the bus has no firewalld.
func (k *Keeper) Run(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		conn, err := k.connect(ctx)
		switch {
		case err == nil:
			err = k.serve(ctx, conn)
		case attempt == 1 && ctx.Err() == nil:
			k.log.Debug("firewalld: no D-Bus here", "err", err)
			<-ctx.Done()
		}
		if ctx.Err() != nil {
			return nil
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
	switch {
	case wanted == nil:
		return nil
	case len(wanted[plainZone])+len(wanted[namesZone]) == 0:
		return f.removeZones()
	}
	made, err := f.makeZones()
	if err != nil {
		return err
	}
	if made {
		k.log.Info("firewalld: made zones and policies for containers' networks", "zones", []string{plainZone, namesZone}, "policies", []string{policyIn, policyOut})
	}
	var errs []error
	for _, zone := range []string{plainZone, namesZone} {
		errs = append(errs, f.fill(zone, wanted[zone]))
	}
	return errors.Join(errs...)
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

// makeZones makes those that are missing, and reports whether any was. Zones can only
// be made in what firewalld keeps, which it then reads again; those that are there stay
// as they are, with what an administrator has added.
func (d daemon) makeZones() (made bool, err error) {
	zones, policies := settings()
	var haveZones, havePolicies []string
	if err := errors.Join(
		d.call(configPath, ".config.getZoneNames", &haveZones),
		d.call(configPath, ".config.getPolicyNames", &havePolicies)); err != nil {
		return false, err
	}
	for _, zone := range []string{plainZone, namesZone} {
		if !slices.Contains(haveZones, zone) {
			made = true
			if err := d.call(configPath, ".config.addZone2", nil, zone, zones[zone]); err != nil {
				return false, err
			}
		}
	}
	for _, policy := range []string{policyIn, policyOut} {
		if !slices.Contains(havePolicies, policy) {
			made = true
			if err := d.call(configPath, ".config.addPolicy", nil, policy, policies[policy]); err != nil {
				return false, err
			}
		}
	}
	running, err := d.zones()
	if err != nil {
		return false, err
	}
	if made || !slices.Contains(running, plainZone) || !slices.Contains(running, namesZone) {
		return made, d.call(path, ".reload", nil)
	}
	return false, nil
}

// zones are those that firewalld runs with.
func (d daemon) zones() (zones []string, err error) {
	err = d.call(path, ".zone.getZones", &zones)
	return zones, err
}

// fill has exactly these bridges in a zone. One that an administrator has put into
// another zone stays there.
func (d daemon) fill(zone string, bridges []string) error {
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
			errs = append(errs, fmt.Errorf("bridge %s is in zone %s, where it was put by somebody else: containers behind it are cut off unless that zone lets them through (firewall-cmd --zone=%s --remove-interface=%s)", b, in, in, b))
		}
	}
	return errors.Join(errs...)
}

// removeZones takes back what was made.
func (d daemon) removeZones() error {
	removed := false
	for _, kind := range []struct {
		list, get, remove string
		names             []string
	}{
		{".config.getPolicyNames", ".config.getPolicyByName", ".config.policy.remove", []string{policyIn, policyOut}},
		{".config.getZoneNames", ".config.getZoneByName", ".config.zone.remove", []string{plainZone, namesZone}},
	} {
		var have []string
		if err := d.call(configPath, kind.list, &have); err != nil {
			return err
		}
		for _, n := range kind.names {
			if !slices.Contains(have, n) {
				continue
			}
			var at dbus.ObjectPath
			if err := d.call(configPath, kind.get, &at, n); err != nil {
				return err
			}
			if err := d.call(at, kind.remove, nil); err != nil {
				return err
			}
			removed = true
		}
	}
	if !removed {
		return nil
	}
	return d.call(path, ".reload", nil)
}
