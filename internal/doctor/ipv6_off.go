package doctor

import "fmt"

type ipv6Off struct{}

func (ipv6Off) About() About {
	return About{
		Name:    "disable_ipv6",
		Symptom: "`docker network create` fails with \"IPv6 is off there\"; links have no IPv6 address, not even a link-local one",
		Why:     "a link with disable_ipv6=1 takes no IPv6 address and drops IPv6 packets; `default` decides for links that are made later, such as the bridges of new networks",
		Fix:     "take the setting out of `/etc/sysctl.conf`, `/etc/sysctl.d` or the kernel's command line (`ipv6.disable=1`), and set it to 0. Of v6net's own bridges `--fix` does",
	}
}

func (ipv6Off) Judge(f Facts) []Finding {
	if f.NoIPv6 {
		return []Finding{{Level: Problem, Found: "the kernel has no IPv6 (net/ipv6 is not below /proc/sys)", Expected: "IPv6",
			Fix: "take ipv6.disable=1 from the kernel's command line, or load the module: modprobe ipv6"}}
	}
	var findings []Finding
	off := func(on, link string, fixable bool) {
		s := Setting{confKey(link, "disable_ipv6"), "0"}
		if f.Sysctls[s.Key] != "1" {
			return
		}
		found := Finding{Level: Problem, On: on, Found: "disable_ipv6=1", Expected: "disable_ipv6=0", Fix: sysctlCommand(s)}
		if fixable {
			found.Settings = []Setting{s}
		}
		findings = append(findings, found)
	}
	off("new links", "default", false)
	for _, name := range f.Parents() {
		off(name, name, false)
	}
	for _, l := range f.bridges() {
		off(fmt.Sprintf("%s (of v6net)", l.Name), l.Name, true)
	}
	return findings
}
