package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// What makes a host a router.
const (
	forwarding6 = "net/ipv6/conf/all/forwarding"
	forwarding4 = "net/ipv4/ip_forward"
)

// setting is one sysctl that forwarding between a parent and a bridge needs.
type setting struct{ key, value string }

// hostSettings are what the present networks need of the host, in the order in
// which they must be set: turning forwarding on purges the default routes of
// every link that does not have accept_ra=2 by then, and such a link takes no
// advertisement afterwards (net/ipv6/addrconf.c, addrconf_fixup_forwarding;
// Documentation/networking/ip-sysctl, accept_ra).
func (e *Engine) hostSettings(ctx context.Context) ([]setting, error) {
	v4, v6 := e.forwards()
	var settings []setting
	if v6 {
		links, err := e.raLinks(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range e.networks {
			if parent := n.namedParent(); parent != "" && n.isRouted() {
				links = append(links, parent)
			}
		}
		slices.Sort(links)
		for _, link := range slices.Compact(links) {
			settings = append(settings, acceptRA(link))
		}
		settings = append(settings, setting{forwarding6, "1"})
	}
	if v4 {
		settings = append(settings, setting{forwarding4, "1"})
	}
	return settings, nil
}

// raLinks are the links that must go on taking advertisements. A host that
// forwarded before us ignores them on its other links: that is not ours to change.
func (e *Engine) raLinks(ctx context.Context) ([]string, error) {
	links, err := e.Host.RALinks(ctx)
	if err != nil {
		return nil, fmt.Errorf("links with a default route by router advertisement: %w", err)
	}
	ours, err := e.forwardingIsOurs(ctx)
	if err != nil || !ours {
		return links, err
	}
	possible, err := e.Host.RouterLinks(ctx)
	if err != nil {
		return nil, fmt.Errorf("links on which a router may be: %w", err)
	}
	return append(links, possible...), nil
}

// forwardingIsOurs reports whether it is us who make the host an IPv6 router.
func (e *Engine) forwardingIsOurs(ctx context.Context) (bool, error) {
	if _, recorded := e.sysctls[forwarding6]; recorded {
		return true, nil
	}
	value, err := e.Sysctls.Get(ctx, forwarding6)
	return value == "0", err
}

// forwards reports which families the networks need the host to forward.
func (e *Engine) forwards() (v4, v6 bool) {
	for _, n := range e.networks {
		if !n.Internal && n.isRouted() {
			v4 = v4 || len(n.IPv4) > 0
			v6 = v6 || len(n.IPv6) > 0
		}
	}
	return v4, v6
}

// applySysctls sets what the networks need and puts back what nobody needs any
// more. What a key held before goes to the journal before the key is changed.
func (e *Engine) applySysctls(ctx context.Context) error {
	settings, err := e.hostSettings(ctx)
	if err != nil {
		return err
	}
	if e.hasRouted() && !e.guarded {
		settings = nil // a host that forwards without rules lets everybody in
	}
	for _, s := range settings {
		if err := e.setSysctl(ctx, s); err != nil {
			return err
		}
	}
	forwarded := map[string]bool{}
	for _, key := range []string{forwarding4, forwarding6} {
		if forwarded[key], err = e.mustForward(ctx, key); err != nil {
			return err
		}
	}
	var errs []error
	for _, key := range e.restoreOrder() {
		if forwarded[family(key)] {
			continue
		}
		if err := e.restoreSysctl(ctx, key); err != nil {
			errs = append(errs, err)
			forwarded[family(key)] = true // what comes after it must not be put back before it
		}
	}
	return errors.Join(errs...)
}

// applySysctlsOf is applySysctls for a network that has come to others. While the host
// forwards what it is to, all of its other links have what they need: one that comes is told of.
func (e *Engine) applySysctlsOf(ctx context.Context, n *network) error {
	v4, v6 := e.forwards()
	for _, family := range []struct {
		key      string
		forwards bool
	}{{forwarding6, v6}, {forwarding4, v4}} {
		if !family.forwards {
			continue
		}
		if now, err := e.Sysctls.Get(ctx, family.key); err != nil || now != "1" || !e.guarded {
			return e.applySysctls(ctx)
		}
	}
	if parent := n.namedParent(); v6 && parent != "" && n.isRouted() {
		return e.setSysctl(ctx, acceptRA(parent))
	}
	return nil
}

// applySysctlsWithout is applySysctls where a network has left others. While they need a family
// forwarded, nothing is put back of what was changed for that.
func (e *Engine) applySysctlsWithout(ctx context.Context) error {
	v4, v6 := e.forwards()
	for key := range e.sysctls {
		if needed := family(key) == forwarding6 && v6 || family(key) == forwarding4 && v4; !needed {
			return e.applySysctls(ctx)
		}
	}
	return nil
}

// mustForward reports whether forwarding has to stay on: for a network of ours,
// or for another's bridge that came while it was on.
func (e *Engine) mustForward(ctx context.Context, key string) (bool, error) {
	v4, v6 := e.forwards()
	if key == forwarding4 && v4 || key == forwarding6 && v6 {
		return true, nil
	}
	if _, ours := e.sysctls[key]; !ours {
		return false, nil
	}
	others, err := e.Host.OthersForward(ctx, key == forwarding6)
	if err != nil {
		return false, fmt.Errorf("bridges that are not ours: %w", err)
	}
	return others, nil
}

// family is the forwarding key with which a key is set and put back.
func family(key string) string {
	if strings.HasPrefix(key, "net/ipv6/") {
		return forwarding6
	}
	return forwarding4
}

func (e *Engine) setSysctl(ctx context.Context, s setting) error {
	old, err := e.Sysctls.Get(ctx, s.key)
	if isAcceptRA(s.key) && errors.Is(err, fs.ErrNotExist) {
		return nil // the link is gone; it is set when it comes back
	}
	if err != nil {
		return err
	}
	// accept_ra=0 is somebody's decision that this link takes no advertisements.
	if old == s.value || isAcceptRA(s.key) && old == "0" {
		return nil
	}
	if !isAcceptRA(s.key) {
		if err := e.recordSideEffects(ctx, s.key); err != nil {
			return err
		}
	}
	if err := e.recordSysctl(s.key, old); err != nil {
		return err
	}
	e.Log.Info("setting of the host changed", "key", s.key, "from", old, "to", s.value)
	return e.Sysctls.Set(ctx, s.key, s.value)
}

func (e *Engine) recordSysctl(key, old string) error {
	if _, recorded := e.sysctls[key]; recorded {
		return nil
	}
	if err := e.Journal.PutSysctl(key, old); err != nil {
		return err
	}
	e.sysctls[key] = old
	return nil
}

// recordSideEffects keeps what the kernel will overwrite when forwarding is
// turned off again: every link's own forwarding, and IPv4's accept_redirects
// (inet_forward_change in net/ipv4/devinet.c, addrconf_fixup_forwarding).
func (e *Engine) recordSideEffects(ctx context.Context, key string) error {
	folder := "net/ipv6/conf"
	lost := map[string]string{}
	if key == forwarding4 {
		folder = "net/ipv4/conf"
		lost[folder+"/all/accept_redirects"] = "0"
	}
	links, err := e.Sysctls.List(ctx, folder)
	if err != nil {
		return err
	}
	for _, link := range links {
		if link != "all" {
			lost[folder+"/"+link+"/forwarding"] = "1"
		}
	}
	for _, k := range sortedIDs(lost) {
		value, err := e.Sysctls.Get(ctx, k)
		if errors.Is(err, fs.ErrNotExist) || err == nil && value != lost[k] {
			continue
		}
		if err != nil {
			return err
		}
		if err := e.recordSysctl(k, value); err != nil {
			return err
		}
	}
	return nil
}

// keepAcceptRA sets accept_ra of a link that came: a new one starts with the
// default, takes no advertisements while the host forwards, and would never
// have a default route.
func (e *Engine) keepAcceptRA(ctx context.Context, link string) {
	needed, err := e.mustForward(ctx, forwarding6)
	if err == nil && needed {
		needed, err = e.forwardingIsOurs(ctx)
	}
	if err == nil && needed {
		needed, err = e.Host.IsRouterLink(ctx, link)
	}
	if err == nil && needed {
		err = e.setSysctl(ctx, acceptRA(link))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // gone again
		e.Log.Error("host settings", "link", link, "err", err)
	}
}

// restoreOrder is the reverse of setting: forwarding, then what the kernel
// changed along with it, then accept_ra.
func (e *Engine) restoreOrder() []string {
	rank := func(key string) int {
		switch {
		case key == forwarding4 || key == forwarding6:
			return 0
		case !isAcceptRA(key):
			return 1
		default:
			return 2
		}
	}
	keys := sortedIDs(e.sysctls)
	slices.SortStableFunc(keys, func(a, b string) int { return rank(a) - rank(b) })
	return keys
}

// restoreSysctl puts a key back, unless somebody else has changed it meanwhile.
// What the kernel changed by itself is put back in any case.
func (e *Engine) restoreSysctl(ctx context.Context, key string) error {
	now, err := e.Sysctls.Get(ctx, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ours := now
	switch {
	case key == forwarding4 || key == forwarding6:
		ours = "1"
	case isAcceptRA(key):
		ours = "2"
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

// linkOf is the link of which a key is; empty for one of the whole host.
func linkOf(key string) string {
	parts := strings.Split(key, "/")
	if len(parts) != 5 || parts[2] != "conf" || parts[3] == "all" {
		return ""
	}
	return parts[3]
}

// sysctlsOf are all records when links have other names, since the kernel's values go with a
// link; nil: none is of these. What is recorded by a next name was another link's, which is gone.
func (e *Engine) sysctlsOf(renamed map[string]string) map[string]string {
	taken := map[string]bool{}
	for _, to := range renamed {
		taken[to] = true
	}
	sysctls, changed := map[string]string{}, false
	for key, original := range e.sysctls {
		link := linkOf(key)
		to, moves := renamed[link]
		switch {
		case moves:
			sysctls[strings.Replace(key, "/"+link+"/", "/"+to+"/", 1)] = original
		case !taken[link]:
			sysctls[key] = original
			continue
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return sysctls
}

// settingsWent reports whether a link with another's prefix has that one's setting as well, so that
// it is the same one by another name, and has not got the prefix alone.
func (e *Engine) settingsWent(ctx context.Context, from, to string) bool {
	next := acceptRA(to)
	_, recorded := e.sysctls[acceptRA(from).key]
	_, another := e.sysctls[next.key]
	if !recorded || another {
		return false
	}
	is, err := e.Sysctls.Get(ctx, next.key)
	return err == nil && is == next.value
}

// forgetSettings forgets what a link had that is gone, and its settings with it: another one
// by its name is its owner's.
func (e *Engine) forgetSettings(ctx context.Context, link string) {
	keys := slices.DeleteFunc(sortedIDs(e.sysctls), func(key string) bool { return linkOf(key) != link })
	if len(keys) == 0 || !e.isAbsent(ctx, link) {
		return
	}
	for _, key := range keys {
		if err := e.Journal.DeleteSysctl(key); err != nil {
			e.Log.Error("forget the settings of a link that is gone", "link", link, "err", err)
			return
		}
		delete(e.sysctls, key)
	}
}

func acceptRA(link string) setting { return setting{"net/ipv6/conf/" + link + "/accept_ra", "2"} }

func isAcceptRA(key string) bool { return strings.HasSuffix(key, "/accept_ra") }
