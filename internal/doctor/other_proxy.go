package doctor

import (
	"fmt"
	"slices"
)

// proxyPrograms answer neighbor solicitations for other hosts, by the names of
// their processes.
var proxyPrograms = []string{"ndppd", "ndprbrd", "npd6", "pndpd", "ndproxy", "parprouted6"}

// IsProxyProgram reports whether a process of that name is one of them.
func IsProxyProgram(name string) bool { return slices.Contains(proxyPrograms, name) }

type otherProxy struct{}

func (otherProxy) About() About {
	return About{
		Name:    "other_proxy",
		Symptom: "addresses of containers that are gone are still answered for; duplicate address detection fails at random",
		Why:     "ndppd and its like answer for whole prefixes, whether somebody has the address or not, and beside v6net twice",
		Fix:     "stop it (`systemctl disable --now ndppd`); what it did for others, `v6net ndproxy --ndppd-config /etc/ndppd.conf` does",
	}
}

func (otherProxy) Judge(f Facts) []Finding {
	var findings []Finding
	for _, p := range f.OtherProxies {
		findings = append(findings, Finding{Level: Warning, On: p.Name, Found: fmt.Sprintf("it runs beside v6net, as process %d", p.PID), Expected: "one NDP proxy",
			Fix: "systemctl disable --now " + p.Name})
	}
	return findings
}
