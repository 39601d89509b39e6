package doctor

import "fmt"

type daemonRuns struct{}

func (daemonRuns) About() About {
	return About{
		Name:    "daemon",
		Symptom: "`v6net status` says that no daemon answers; a router that has forgotten a container asks in vain; new containers do not start",
		Why:     "networks stay as they are while no daemon runs, but nobody answers neighbor solicitations, renews prefixes, advertises or mends",
		Fix:     "`docker plugin disable -f v6net; docker plugin enable v6net`, and if that says that the id is in use, again after some seconds (a plugin that died early twice is not started again, and `docker plugin ls` has it as enabled); or `systemctl start v6net.service`. The engine's log, or the service's, says why it ended",
	}
}

func (daemonRuns) Judge(f Facts) []Finding {
	if f.Status != nil {
		return nil
	}
	found := Finding{Level: Warning, Found: f.NoDaemon, Expected: "a daemon that answers",
		Fix: "docker plugin disable -f v6net; docker plugin enable v6net (or systemctl start v6net.service)"}
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
