package doctor

import (
	"fmt"

	"github.com/v6net/v6net/internal/spec"
)

type degraded struct{}

func (degraded) About() About {
	return About{
		Name:    "degraded",
		Symptom: "`v6net status` says DEGRADED, ERROR, CONFLICT or NOTE",
		Why:     "the daemon could not bring something to what it should be; it tries again by itself when a link or route changes, and once a minute",
		Fix:     "what the words name; they are the daemon's own. If another check has found something, mend that first",
	}
}

func (degraded) Judge(f Facts) []Finding {
	if f.Status == nil {
		return nil
	}
	var findings []Finding
	add := func(level Level, on, found string) {
		if found != "" {
			findings = append(findings, Finding{Level: level, On: on, Found: found, Expected: "no error", Fix: "v6net status, and the daemon's log"})
		}
	}
	add(Problem, "", f.Status.Error)
	for _, n := range f.Networks() {
		add(Problem, network(n), n.Error)
		for _, note := range n.Notes {
			add(Warning, network(n), note)
		}
		if n.RA != nil {
			add(Warning, network(n), advertiserError(*n.RA))
		}
	}
	for _, p := range f.Status.Proxies {
		add(Problem, "NDP proxy on "+p.Parent, p.Error)
		for _, c := range p.Conflicts {
			add(Problem, "NDP proxy on "+p.Parent, fmt.Sprintf("%s is used by %s, too", c.Address, c.HardwareAddr))
		}
	}
	for _, p := range f.Status.Parents {
		add(Warning, "advertisements on "+p.Link, p.Error)
	}
	for _, d := range f.Status.Delegations {
		add(Warning, fmt.Sprintf("source %s on %s", d.Source, d.Link), d.Error)
	}
	return findings
}

// advertiserError is why a network's link is told nothing.
func advertiserError(a spec.AdvertiserStatus) string {
	if a.Error == "" {
		return ""
	}
	return "not advertised: " + a.Error
}
