// Package facts finds out about a host what internal/doctor judges: it reads the
// kernel, and asks routers on the host's links. It changes nothing but for what it
// makes in a network namespace that goes with it.
package facts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/kernel/icmp6"
	"github.com/v6net/v6net/internal/kernel/nft"
	"github.com/v6net/v6net/internal/kernel/route"
	"github.com/v6net/v6net/internal/kernel/sysctl"
	"github.com/v6net/v6net/internal/spec"
)

// Host is the host that is looked at: the network namespace of the calling thread.
type Host struct {
	Sysctls  *sysctl.Parameters
	Proc     string   // where the kernel shows processes
	Firmware string   // where it shows the firmware's fields
	Tried    []string // what the kernel is tried for
	// On is told what is looked at, and calls done when that is over; nil: nobody is told.
	On func(what string) (done func())
}

// New is the host of this process.
func New() Host {
	return Host{Sysctls: sysctl.New(""), Proc: "/proc", Firmware: "/sys/class/dmi/id", Tried: doctor.Tried()}
}

// patience is how long all of it may take. Routers have a second of that; what else
// takes time is a kernel with very many rules, links or processes.
const patience = 5 * time.Second

// Gather adds what can be found out to f, in which the daemon's status is already,
// if there is any. What cannot be, or takes too long, is in f.Unknown.
func (h Host) Gather(ctx context.Context, f *doctor.Facts) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, part := range []struct {
		what string
		look func(context.Context, *doctor.Facts) error
	}{
		{"links", links},
		{"routes", defaults},
		{"settings (sysctl)", h.sysctls},
		{"neighbour tables", h.neighbors},
		{"proxy entries of the kernel", proxyEntries},
		{"programs", h.programs},
		{"firewall", filters},
		{"what the kernel can do", h.try},
		{"firmware", h.firmware},
		{"clock", synced},
		{"routers", h.ask},
	} {
		done := func() {}
		if h.On != nil {
			done = h.On(part.what)
		}
		err := ctx.Err()
		if err == nil {
			err = part.look(ctx, f)
		}
		done()
		if err != nil {
			f.Unknown = append(f.Unknown, doctor.Unknown{What: part.what, Why: err.Error()})
		}
	}
}

func defaults(ctx context.Context, f *doctor.Facts) error {
	routes, err := route.New()
	if err != nil {
		return err
	}
	defer routes.Close()
	found, err := routes.Defaults(ctx)
	for _, d := range found {
		f.Defaults = append(f.Defaults, doctor.Default(d))
	}
	return err
}

// sysctls reads those that checks judge: of every link, and of all.
func (h Host) sysctls(ctx context.Context, f *doctor.Facts) error {
	f.Sysctls = map[string]string{}
	keys := []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables",
		"net/ipv4/neigh/default/gc_thresh2", "net/ipv4/neigh/default/gc_thresh3", "net/ipv6/neigh/default/gc_thresh2", "net/ipv6/neigh/default/gc_thresh3"}
	names, err := h.Sysctls.List(ctx, "net/ipv6/conf")
	if errors.Is(err, fs.ErrNotExist) {
		f.NoIPv6 = true
	} else if err != nil {
		return err
	}
	for _, name := range names {
		for _, key := range []string{"accept_ra", "disable_ipv6", "forwarding", "mtu", "proxy_ndp"} {
			keys = append(keys, "net/ipv6/conf/"+name+"/"+key)
		}
		keys = append(keys, "net/ipv4/conf/"+name+"/rp_filter", "net/ipv4/conf/"+name+"/forwarding")
	}
	for _, key := range keys {
		value, err := h.Sysctls.Get(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the link has gone, or there is no such thing here
		}
		if err != nil {
			return err
		}
		f.Sysctls[key] = value
	}
	return nil
}

// programs looks for other NDP proxies in this network namespace.
func (h Host) programs(ctx context.Context, f *doctor.Facts) error {
	here, err := os.Readlink(filepath.Join(h.Proc, "self/ns/net"))
	if err != nil {
		return fmt.Errorf("own network namespace: %w", err)
	}
	entries, err := os.ReadDir(h.Proc)
	if err != nil {
		return fmt.Errorf("list processes: %w", err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		name, err := os.ReadFile(filepath.Join(h.Proc, e.Name(), "comm"))
		if err != nil || !doctor.IsProxyProgram(strings.TrimSpace(string(name))) {
			continue // or it has ended
		}
		if there, err := os.Readlink(filepath.Join(h.Proc, e.Name(), "ns/net")); err == nil && there == here {
			f.OtherProxies = append(f.OtherProxies, doctor.Process{Name: strings.TrimSpace(string(name)), PID: pid})
		}
	}
	return nil
}

func filters(ctx context.Context, f *doctor.Facts) error {
	survey, err := nft.Look(ctx)
	if err != nil {
		return err
	}
	f.Firewall = doctor.Firewall{Ours: survey.Ours, ReversePath: survey.ReversePath, Legacy: survey.Legacy}
	for _, c := range survey.Forward {
		f.Firewall.Forward = append(f.Firewall.Forward, doctor.ForwardChain(c))
	}
	return nil
}

// firmware reads what tells clouds and hypervisors apart; machines without have none.
func (h Host) firmware(_ context.Context, f *doctor.Facts) error {
	f.Firmware = map[string]string{}
	for _, field := range []string{"sys_vendor", "product_name", "board_vendor", "chassis_asset_tag"} {
		if text, err := os.ReadFile(filepath.Join(h.Firmware, field)); err == nil {
			f.Firmware[field] = strings.TrimSpace(string(text))
		}
	}
	return nil
}

// synced asks whether somebody keeps the kernel's clock right (adjtimex(2)).
func synced(_ context.Context, f *doctor.Facts) error {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return fmt.Errorf("read the state of the clock: %w", err)
	}
	f.Unsynced = t.Status&unix.STA_UNSYNC != 0
	return nil
}

// ask finds out whether routers are there, and whether they send back to the
// networks' prefixes: all at the same time, two seconds at most.
func (h Host) ask(ctx context.Context, f *doctor.Facts) error {
	var (
		asked sync.WaitGroup
		mu    sync.Mutex
		errs  []error
		// Before anything is added.
		tries, here = returns(*f), onLinkTries(*f)
		known       = *f
	)
	for _, d := range f.Defaults {
		if !d.Usable || !d.Router.IsValid() || !hasNeighbors(known, d.Link) {
			continue
		}
		asked.Go(func() {
			answers, err := icmp6.Ask(ctx, d.Link, d.Router)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			f.Routers = append(f.Routers, doctor.Router{Link: d.Link, Addr: d.Router, Answers: answers})
		})
	}
	for _, want := range tries {
		asked.Go(func() {
			control := hostEcho(ctx, want.Link, want.Router)
			comes, err := icmp6.Echo(ctx, want.Link, want.Address, want.Router)
			want.Comes, want.Control = comes, <-control
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			f.Returns = append(f.Returns, want)
		})
	}
	for _, try := range here {
		asked.Go(func() {
			var err error
			if try.Address.IsValid() {
				control := hostEcho(ctx, try.Link, try.Router)
				// Twice: the first answer waits for what a router may have forgotten.
				for range 2 {
					if try.Comes, err = try.do(ctx); err != nil || try.Comes {
						break
					}
				}
				if try.Control = <-control; errors.Is(err, fs.ErrNotExist) { // the container has ended meanwhile
					try.Address, err = netip.Addr{}, nil
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			f.OnLinks = append(f.OnLinks, try.OnLink)
		})
	}
	asked.Wait()
	slices.SortFunc(f.OnLinks, func(a, b doctor.OnLink) int {
		return cmp.Or(strings.Compare(a.Network, b.Network), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	slices.SortFunc(f.Routers, func(a, b doctor.Router) int { return cmp.Or(strings.Compare(a.Link, b.Link), a.Addr.Compare(b.Addr)) })
	slices.SortFunc(f.Returns, func(a, b doctor.Return) int {
		return cmp.Or(strings.Compare(a.Network, b.Network), a.Address.Compare(b.Address))
	})
	return errors.Join(errs...)
}

// hostEcho asks a router under the host's own address, beside what else is asked.
func hostEcho(ctx context.Context, link string, router netip.Addr) <-chan bool {
	answers := make(chan bool, 1)
	go func() {
		comes, err := icmp6.Echo(ctx, link, netip.Addr{}, router)
		answers <- err == nil && comes
	}()
	return answers
}

// returns are the prefixes that can be tried: those of networks that leave under
// their own addresses, of which the bridge has one. Those on the parent's link are
// tried otherwise (onLinkTries).
func returns(f doctor.Facts) []doctor.Return {
	var tries []doctor.Return
	for _, n := range f.Networks() {
		if n.Internal || n.Bridge == "" || n.Translation() != (spec.Translation{}) {
			continue
		}
		router, ok := routerOn(f, n.Parent)
		if !ok {
			continue
		}
		for _, s := range n.IPv6 {
			if addr, ok := bridgeAddress(f, n.Bridge, s); ok && !s.OnLink && !n.MasqueradesIPv6(s) {
				tries = append(tries, doctor.Return{Network: spec.ShortID(n.ID), Address: addr, Router: router, Link: n.Parent})
			}
		}
	}
	return tries
}

func hasNeighbors(f doctor.Facts, link string) bool {
	return slices.ContainsFunc(f.Links, func(l doctor.Link) bool { return l.Name == link && l.Neighbors })
}

func routerOn(f doctor.Facts, link string) (netip.Addr, bool) {
	for _, d := range f.Defaults {
		if d.Link == link && d.Usable && d.Router.IsValid() {
			return d.Router, true
		}
	}
	return netip.Addr{}, false
}

// bridgeAddress is the bridge's in a subnet's prefix of now.
func bridgeAddress(f doctor.Facts, bridge string, s spec.Subnet) (netip.Addr, bool) {
	prefix := s.Prefix
	if s.Lent != nil {
		now, ok := s.Lent.Current()
		if !ok || now.OnLink {
			return netip.Addr{}, false
		}
		prefix = now.Prefix
	}
	for _, l := range f.Links {
		for _, a := range l.Addresses {
			if l.Name == bridge && prefix.Contains(a.Addr()) {
				return a.Addr(), true
			}
		}
	}
	return netip.Addr{}, false
}
