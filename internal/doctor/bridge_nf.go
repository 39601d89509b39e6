package doctor

type bridgeNetfilter struct{}

func (bridgeNetfilter) About() About {
	return About{
		Name:    "bridge_nf",
		Symptom: "containers of one network do not reach each other, though its bridge forwards their frames",
		Why:     "with br_netfilter's bridge-nf-call-iptables or -ip6tables frames inside a bridge are judged by the forward chains as well, where somebody else's drop what v6net cannot have accepted",
		Fix:     "mend what forward_drop names; or, if nobody else needs it (Docker with `icc=false`, Kubernetes), `sysctl -w net/bridge/bridge-nf-call-ip6tables=0`",
	}
}

func (bridgeNetfilter) Judge(f Facts) []Finding {
	v4, v6 := f.forwards()
	var findings []Finding
	for _, family := range []struct {
		name   string
		key    string
		wanted bool
	}{{"ip6", "net/bridge/bridge-nf-call-ip6tables", v6}, {"ip", "net/bridge/bridge-nf-call-iptables", v4}} {
		if !family.wanted || f.Sysctls[family.key] != "1" || !refuses(f, family.name) {
			continue
		}
		findings = append(findings, Finding{Level: Problem, Found: family.key + "=1, and a forward chain drops (see forward_drop)", Expected: "0, or chains that accept the mark 0x1000",
			Fix: sysctlCommand(Setting{family.key, "0"}) + ", if nobody else needs it"})
	}
	return findings
}
