package doctor

import "fmt"

type proxyEntries struct{}

func (proxyEntries) About() About {
	return About{
		Name:    "proxy_ndp",
		Symptom: "an address of a network is answered for though no container has it, and is never handed out since it counts as taken",
		Why:     "the kernel answers for its own proxy entries (`proxy_ndp=1` and `ip -6 neigh add proxy`), of which v6net knows nothing and which stay when the container goes",
		Fix:     "`ip -6 neigh del proxy ADDRESS dev LINK` for addresses of v6net's networks, and take the script out that adds them; v6net needs neither these nor `proxy_ndp`",
	}
}

func (proxyEntries) Judge(f Facts) []Finding {
	pools := f.pools()
	var findings []Finding
	for _, e := range f.ProxyEntries {
		if !within(pools, e.Addr) || f.Sysctls[confKey(e.Link, "proxy_ndp")] != "1" && f.Sysctls[confKey("all", "proxy_ndp")] != "1" {
			continue
		}
		findings = append(findings, Finding{Level: Warning, On: e.Link, Found: fmt.Sprintf("the kernel answers for %s by a proxy entry", e.Addr),
			Expected: "v6net alone answers for its networks", Fix: fmt.Sprintf("ip -6 neigh del proxy %s dev %s", e.Addr, e.Link)})
	}
	return findings
}
