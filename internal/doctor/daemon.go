package doctor

import "fmt"

type daemonRuns struct{}

func (daemonRuns) About() About {
	return About{
		Name:    "daemon",
		Symptom: "`v6net status` says that no daemon answers; a router that has forgotten a container asks in vain; new containers do not start",
		Why:     "networks stay as they are while no daemon runs, but nobody answers neighbor solicitations, renews prefixes, advertises or mends",
		Fix:     "`docker plugin enable v6net`, or `systemctl start v6net.service`; `docker plugin ls` and the engine's log say why it ended",
	}
}

func (daemonRuns) Judge(f Facts) []Finding {
	if f.Status != nil {
		return nil
	}
	found := Finding{Level: Warning, Found: f.NoDaemon, Expected: "a daemon that answers",
		Fix: "docker plugin enable v6net (or systemctl start v6net.service)"}
	if n := len(f.bridges()); n > 0 {
		found.Level = Problem
		there := "the bridge of a network is there"
		if n > 1 {
			there = fmt.Sprintf("bridges of %d networks are there", n)
		}
		found.Found = f.NoDaemon + "; " + there
	}
	return []Finding{found}
}
