// Package doctor judges what was found out about a host: what on it would keep
// containers from being reached, why, and what mends it. It asks nobody and changes
// nothing: facts come from internal/kernel/facts, the daemon, and
// internal/doctor/outside.
package doctor

import (
	"slices"
	"strings"
)

// A Check looks at the facts for one thing that can be wrong.
type Check interface {
	About() About
	// Judge finds nothing on a host where this is as it should be. Facts that could
	// not be found out are no finding: Facts.Unknown says which those are.
	Judge(Facts) []Finding
}

// About is what there is to read of a check before anything was found
// (docs/doctor.md).
type About struct {
	Name    string // as in `v6net doctor --json`
	Symptom string // what people see
	Why     string
	Fix     string // in general; a finding's own names what it is about
}

// Level says what a finding means for containers.
type Level string

// The levels.
const (
	Problem Level = "problem" // containers are cut off, or will be
	Warning Level = "warning" // they may be, or it cannot be told
	Note    Level = "note"    // they are not; it is good to know
)

// Finding is one thing that is not as it should be.
type Finding struct {
	Check    string    `json:"check"`
	Level    Level     `json:"level"`
	On       string    `json:"on,omitempty"` // what it is about: a link, a network, a program; empty: the host
	Found    string    `json:"found"`
	Expected string    `json:"expected"`
	Why      string    `json:"why"`
	Fix      string    `json:"fix"`
	Settings []Setting `json:"settings,omitempty"` // what `v6net doctor --fix` sets, in this order; none: it is not safe to do unasked
}

// Setting is a sysctl, by its path below /proc/sys, that a host can be given
// without harm.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Checks are all that there are, in the order in which their findings are shown:
// what comes first is often the cause of what comes later.
func Checks() []Check {
	return []Check{
		daemonRuns{}, ipv6Off{}, modules{},
		carrier{}, defaultRoute{}, globalAddress{}, acceptRA{}, forwarding{}, upstream{}, prefixRouted{}, onLink{}, mtu{},
		forwardDrop{}, bridgeNetfilter{}, reversePath{},
		otherProxy{}, proxyEntries{}, mldSnooping{}, macFilter{}, neighborTable{},
		engineVersion{}, engineNetworks{}, dnsAAAA{}, registry{}, clock{},
		degraded{},
	}
}

// Examine is what checks find, in their order.
func Examine(f Facts) []Finding {
	findings := []Finding{}
	for _, c := range Checks() {
		about := c.About()
		for _, found := range c.Judge(f) {
			found.Check = about.Name
			if found.Why == "" {
				found.Why = about.Why
			}
			findings = append(findings, found)
		}
	}
	return findings
}

// Worst is the gravest level of the findings; empty where there is none.
func Worst(findings []Finding) Level {
	for _, l := range []Level{Problem, Warning, Note} {
		if slices.ContainsFunc(findings, func(f Finding) bool { return f.Level == l }) {
			return l
		}
	}
	return ""
}

// sysctlCommand is how people set one.
func sysctlCommand(settings ...Setting) string {
	words := make([]string, len(settings))
	for i, s := range settings {
		words[i] = s.Key + "=" + s.Value
	}
	return "sysctl -w " + strings.Join(words, " ")
}

// confKey is a setting of one link, of IPv6.
func confKey(link, key string) string { return "net/ipv6/conf/" + link + "/" + key }
