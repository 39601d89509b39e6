package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	elsewhere "github.com/v6net/v6net/internal/doctor/outside"
	"github.com/v6net/v6net/internal/names"
	"github.com/v6net/v6net/internal/spec"
)

type statusCommand struct {
	daemonSocket
	JSON bool `help:"Print JSON."`
}

// Run asks the daemon and prints its answer.
func (c statusCommand) Run(ctx context.Context) error {
	status, err := c.status(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(os.Stdout, status)
	}
	return printStatus(os.Stdout, status, screenOf(os.Stdout))
}

// nameContainers adds the names that Docker knows, where it can be asked.
func nameContainers(ctx context.Context, status *spec.Status) {
	if docker, err := names.OfDocker(ctx, elsewhere.Usual().Docker); err == nil {
		docker.Status(status)
	}
}

// printStatus writes a status for people.
func printStatus(w io.Writer, s spec.Status, on screen) error {
	var out page
	p := out.printf
	p("v6net %s", s.Version)
	if s.Error != "" {
		p("DEGRADED\t%s", s.Error)
	}
	for _, o := range s.Obstacles {
		p("OBSTACLE\ttable %s, chain %s refuses what v6net lets through (%s). Mend it: %s", o.Table, o.Chain, o.Why, o.Fix)
	}
	if len(s.Networks) == 0 {
		p("no networks (make one: docker network create -d DRIVER --ipam-driver DRIVER --ipv6 NAME, DRIVER being v6net:latest for the managed plugin, v6net for the service; or podman network create -d v6net NAME)")
	}
	for _, n := range s.Networks {
		p("\nNETWORK %s\t%s%s", called(n.ID, n.Name), modeWord(n), networkFlags(n.Network))
		for line := range strings.Lines(n.Error) {
			p("  DEGRADED\t%s", strings.TrimSuffix(line, "\n"))
		}
		for _, subnet := range n.Subnets() {
			p("  prefix %s\t%s\t%s", subnet.Prefix, subnet.Source, subnet.Reason)
			printLent(p, subnet.Lent)
			if subnet.Host.IsValid() {
				p("  this host\t%s", subnet.Host)
			}
		}
		for _, note := range n.Notes {
			p("  NOTE\t%s", note)
		}
		if n.RA != nil {
			p("  advertises\t%s%s", advertisedWords(*n.RA), counterList(n.RA.Counters))
			printAdvertiser(p, *n.RA)
			printRouters(p, n.RA.Routers)
		}
		if n.Firewall != nil {
			p("  firewall\t%s", firewallWords(*n.Firewall))
		}
		for _, ep := range n.Endpoints {
			p("  endpoint %s\t%s\t%s", called(ep.ID, ep.Name), addressList(n.Network, ep), portList(ep.Ports))
		}
	}
	for _, pool := range s.Pools {
		if !pool.Used {
			p("\nPOOL %s\t%s, not used by a v6net network, %d leases", pool.Prefix, pool.Source, pool.Leases)
		}
	}
	for _, proxy := range s.Proxies {
		printProxy(p, proxy)
		for _, a := range proxy.Addresses {
			p("  %s", a)
		}
	}
	for _, a := range s.Parents {
		p("\nPARENT %s\t%s, %d routers%s", a.Link, announcedWords(a.Advertisement), len(a.Routers), counterList(a.Counters))
		printAdvertiser(p, a)
		printRouters(p, a.Routers)
	}
	for _, d := range s.Delegations {
		printDelegations(p, d)
	}
	for _, setting := range s.Sysctls {
		p("\nSYSCTL %s\twas %s, put back with the last network", setting.Key, setting.Original)
	}
	return out.print(w, on)
}

// printDelegations writes what a source has lent.
func printDelegations(p func(format string, args ...any), d spec.DelegationStatus) {
	p("\nSOURCE %s on %s\t%s since %s", d.Source, d.Link, d.State, d.Since.Format(time.DateTime))
	if d.Error != "" {
		p("  ERROR\t%s", d.Error)
	}
	for _, lent := range d.Delegations {
		words := "routed to this host"
		if lent.OnLink {
			words = "on-link at " + lent.Parent
		}
		if lent.Evidence != "" {
			words += " (" + lent.Evidence + ")"
		}
		p("  lent %s\t%s, %s, by %s", lent.Prefix, words, untilWords(lent), lent.Origin)
	}
}

// untilWords say until when a prefix is lent.
func untilWords(d spec.Delegation) string {
	words := "without end"
	if !d.Valid.IsZero() {
		words = "until " + d.Valid.Format(time.DateTime)
	}
	if !d.Preferred.IsZero() && !d.Preferred.After(time.Now()) {
		words += " (deprecated)"
	}
	return words
}

// advertisedWords say what was last said on a network's link.
func advertisedWords(a spec.AdvertiserStatus) string {
	if a.Sent.IsZero() {
		return "nothing yet"
	}
	return strings.Join(headerWords(a.Advertisement), ", ")
}

// announcedWords say what was last said on a parent link.
func announcedWords(a spec.Advertisement) string {
	n := 0
	for _, r := range a.Routes {
		if r.Lifetime > 0 {
			n++
		}
	}
	words := fmt.Sprintf("%d routes announced", n)
	if flags := flagWords(a); len(flags) > 0 {
		words += " with " + strings.Join(flags, ", ") + " as its routers say"
	}
	return words
}

// printRouters writes what other routers of a link say.
func printRouters(p func(format string, args ...any), routers []spec.HeardRouter) {
	for _, r := range routers {
		p("  router %s\t%s", r.Source, strings.Join(headerWords(r.Advertisement), ", "))
		for _, line := range advertisedLines(r.Advertisement) {
			p("    %s", line)
		}
	}
}

// printProxy is all but the addresses, of which there may be a million.
func printProxy(p func(format string, args ...any), proxy spec.ProxyStatus) {
	multicast := ""
	if proxy.AllMulticast {
		multicast = ", all multicast"
	}
	how := proxy.Path + " path"
	if proxy.Error != "" {
		how = "not answering"
	}
	p("\nNDP PROXY on %s\t%s, %d addresses%s%s", proxy.Parent, how, proxy.Leases, multicast, counterList(proxy.Counters))
	if proxy.Error != "" {
		p("  DEGRADED\t%s", proxy.Error)
	}
	if proxy.PathError != "" {
		p("  not by eBPF\t%s", proxy.PathError)
	}
	for _, c := range proxy.Conflicts {
		p("  CONFLICT\t%s is used by %s, too, last at %s", c.Address, c.HardwareAddr, c.Seen.Format(time.DateTime))
	}
	for _, prefix := range proxy.Prefixes {
		p("  all of %s", prefix)
	}
}

func printAdvertiser(p func(format string, args ...any), a spec.AdvertiserStatus) {
	for _, line := range advertisedLines(a.Advertisement) {
		p("    %s", line)
	}
	if a.Error != "" {
		p("    not advertised now: %s", a.Error)
	}
	for _, n := range a.Notes {
		p("    NOTE %s", n)
	}
}

// modeWord says how containers are attached, and to what.
func modeWord(n spec.NetworkStatus) string {
	o := n.Options
	switch o.Mode {
	case spec.ModeMacvlan:
		return fmt.Sprintf("macvlan %s on %s", o.MacvlanMode, n.Parent)
	case spec.ModeIPvlan:
		return fmt.Sprintf("ipvlan %s on %s", o.IPvlanMode, n.Parent)
	default:
		return "bridge " + n.Bridge
	}
}

func networkFlags(n spec.Network) string {
	flags := fmt.Sprintf(", inbound %s", n.Options.Inbound)
	if n.Internal {
		flags += ", internal"
	}
	return flags
}

// printLent writes what a subnet that follows a source has now.
func printLent(p func(format string, args ...any), l *spec.Lent) {
	if l == nil {
		return
	}
	for _, lent := range l.Prefixes {
		word := "in use"
		if lent.Former {
			word = "former"
		}
		var words []string
		if lent.Origin != "" {
			words = append(words, lent.Origin)
		}
		if !lent.Preferred.IsZero() {
			words = append(words, "preferred until "+lent.Preferred.Local().Format(time.DateTime))
		}
		if !lent.Valid.IsZero() {
			words = append(words, "valid until "+lent.Valid.Local().Format(time.DateTime))
		}
		p("    %s %s\t%s", word, lent.Prefix, strings.Join(words, ", "))
	}
}

func addressList(n spec.Network, ep spec.Endpoint) string {
	var s []string
	for _, a := range n.HasOf(ep) {
		text := a.String()
		if former, _ := isFormer(n, a); former {
			text += " (former)"
		}
		if outside, ok := n.Translation().Out(a); ok {
			text += " (" + outside.String() + " outside)"
		}
		s = append(s, text)
	}
	return strings.Join(s, ", ")
}

// called is what an object is known by: its ID and, where the container engine has
// told it, its name.
func called(id, name string) string {
	return strings.TrimSpace(spec.ShortID(id) + " " + name)
}

func portList(ports []spec.Port) string {
	var s []string
	for _, p := range ports {
		text := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.HostPort != 0 {
			text = fmt.Sprintf("%d->%s", p.HostPort, text)
			if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
				text = net.JoinHostPort(p.HostIP.String(), text)
			}
		}
		s = append(s, text)
	}
	return strings.Join(s, ", ")
}

func counterList(counters map[string]uint64) string {
	var s []string
	for name, n := range counters {
		if n > 0 {
			s = append(s, fmt.Sprintf(", %s %d", name, n))
		}
	}
	slices.Sort(s)
	return strings.Join(s, "")
}

// firewallWords are a network's counters.
func firewallWords(c spec.FirewallCounters) string {
	words := fmt.Sprintf("let in %d, out %d; denied in %d, out %d", c.LetIn, c.LetOut, c.DeniedIn, c.DeniedOut)
	for _, who := range slices.Sorted(maps.Keys(c.Forged)) {
		words += fmt.Sprintf("; forged by %s %d", who, c.Forged[who])
	}
	return words
}
