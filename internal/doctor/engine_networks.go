package doctor

import (
	"fmt"
	"slices"

	"github.com/v6net/v6net/internal/spec"
)

type engineNetworks struct{}

func (engineNetworks) About() About {
	return About{
		Name:    "networks",
		Symptom: "`docker start` says `pool …: not found`, `v6net status` lacks a network that `docker network ls` has, or has one that Docker does not know",
		Why:     "the journal is gone, as with `docker plugin rm -f`, and v6net knows nothing of networks that were made before; or a network was removed while no daemon ran, and Docker forgot it alone",
		Fix:     "Docker's: remove its containers and then the network (`docker rm -f`, `docker network rm`), and make both anew. v6net's: `v6net forget ID`",
	}
}

// Judge compares what Docker has with what it has told v6net. Podman's networks are its
// own: Docker never knows them.
func (engineNetworks) Judge(f Facts) []Finding {
	i := slices.IndexFunc(f.Engines, func(e Engine) bool { return e.Name == "Docker" })
	if f.Status == nil || i < 0 {
		return nil
	}
	var findings []Finding
	docker := f.Engines[i]
	for _, own := range docker.Networks {
		if own.Ours && !slices.ContainsFunc(f.Networks(), func(n spec.NetworkStatus) bool { return n.ID == own.ID }) {
			findings = append(findings, Finding{Level: Problem, On: "network " + own.Name, Found: "Docker has it, and v6net does not know it", Expected: "a network that both know",
				Why: "the journal that it was in is gone: its containers have no way out, and do not start again",
				Fix: fmt.Sprintf("docker network rm %s (after docker rm -f of its containers), and make it anew", own.Name)})
		}
	}
	for _, n := range f.Networks() {
		if n.FrontEnd == "" && !slices.ContainsFunc(docker.Networks, func(own EngineNetwork) bool { return own.ID == n.ID }) {
			findings = append(findings, Finding{Level: Warning, On: network(n), Found: "v6net has it, and Docker does not know it", Expected: "a network that both know",
				Why: "it was removed while no daemon ran: it keeps its prefix, and what was set on the host for it",
				Fix: "v6net forget " + spec.ShortID(n.ID)})
		}
	}
	return findings
}
