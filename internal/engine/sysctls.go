package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

const (
	forwarding6 = "net/ipv6/conf/all/forwarding"
	forwarding4 = "net/ipv4/ip_forward"
)

// setting is one sysctl that forwarding between a parent and a bridge needs.
type setting struct{ key, value string }

// hostSettings are what the present networks need of the host, in the order in
// which they must be set: turning forwarding on purges the default routes of
// every link that does not have accept_ra=2 by then (net/ipv6/addrconf.c,
// addrconf_fixup_forwarding; Documentation/networking/ip-sysctl, accept_ra).
func (e *Engine) hostSettings(ctx context.Context) ([]setting, error) {
	var v4, v6 bool
	parents, err := e.Host.RALinks(ctx)
	if err != nil {
		return nil, fmt.Errorf("links with a default route by router advertisement: %w", err)
	}
	for _, n := range e.networks {
		if n.Internal {
			continue
		}
		v4 = v4 || len(n.IPv4) > 0
		v6 = v6 || len(n.IPv6) > 0
		if parent := n.parent(); parent != "" {
			parents = append(parents, parent)
		}
	}
	var settings []setting
	if v6 {
		slices.Sort(parents)
		for _, link := range slices.Compact(parents) {
			settings = append(settings, acceptRA(link))
		}
		settings = append(settings, setting{forwarding6, "1"})
	}
	if v4 {
		settings = append(settings, setting{forwarding4, "1"})
	}
	return settings, nil
}

// applySysctls sets what the networks need and puts back what none needs any
// more. What a key held before goes to the journal before the key is changed.
func (e *Engine) applySysctls(ctx context.Context) error {
	settings, err := e.hostSettings(ctx)
	if err != nil {
		return err
	}
	for _, s := range settings {
		if err := e.setSysctl(ctx, s); err != nil {
			return err
		}
	}
	needed := func(key string) bool {
		return slices.ContainsFunc(settings, func(s setting) bool { return s.key == key })
	}
	var errs []error
	for _, key := range e.restoreOrder() {
		// While forwarding is on a link keeps accept_ra=2, also when its
		// advertised route is gone for the moment: it could not come back.
		if !needed(key) && !(isAcceptRA(key) && needed(forwarding6)) {
			errs = append(errs, e.restoreSysctl(ctx, key))
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) setSysctl(ctx context.Context, s setting) error {
	old, err := e.Sysctls.Get(ctx, s.key)
	if isAcceptRA(s.key) && errors.Is(err, fs.ErrNotExist) {
		return nil // the parent is gone; it is set when it comes back
	}
	if err != nil {
		return err
	}
	// accept_ra=0 is somebody's decision that this link takes no advertisements.
	if old == s.value || isAcceptRA(s.key) && old == "0" {
		return nil
	}
	if _, recorded := e.sysctls[s.key]; !recorded {
		if err := e.Journal.PutSysctl(s.key, old); err != nil {
			return err
		}
		e.sysctls[s.key] = old
	}
	return e.Sysctls.Set(ctx, s.key, s.value)
}

// keepAcceptRA sets a link's accept_ra again when the link has been away: a new
// one starts with the default, takes no advertisements while the host forwards,
// and would never have a default route again.
func (e *Engine) keepAcceptRA(ctx context.Context, link string) {
	s := acceptRA(link)
	if _, ours := e.sysctls[s.key]; !ours {
		return
	}
	if err := e.setSysctl(ctx, s); err != nil {
		e.Log.Error("host settings", "link", link, "err", err)
	}
}

// restoreOrder is the reverse of hostSettings: forwarding before accept_ra.
func (e *Engine) restoreOrder() []string {
	keys := sortedIDs(e.sysctls)
	slices.SortStableFunc(keys, func(a, b string) int {
		switch {
		case isAcceptRA(a) == isAcceptRA(b):
			return 0
		case isAcceptRA(b):
			return -1
		default:
			return 1
		}
	})
	return keys
}

// restoreSysctl puts a key back, unless somebody else has changed it meanwhile.
func (e *Engine) restoreSysctl(ctx context.Context, key string) error {
	ours := "1"
	if isAcceptRA(key) {
		ours = "2"
	}
	now, err := e.Sysctls.Get(ctx, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && now == ours {
		if err := e.Sysctls.Set(ctx, key, e.sysctls[key]); err != nil {
			return err
		}
	}
	if err := e.Journal.DeleteSysctl(key); err != nil {
		return err
	}
	delete(e.sysctls, key)
	return nil
}

func acceptRA(link string) setting { return setting{"net/ipv6/conf/" + link + "/accept_ra", "2"} }

func isAcceptRA(key string) bool { return strings.HasSuffix(key, "/accept_ra") }
