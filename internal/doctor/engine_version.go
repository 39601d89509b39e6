package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

type engineVersion struct{}

func (engineVersion) About() About {
	return About{
		Name:    "engine",
		Symptom: "the driver is not found, networks are refused, or a container's default route is missing",
		Why:     "v6net needs Docker 20.10 or Podman 4.5, the first that knows netavark's plugins; and Docker's own IPv6 networks (`fixed-cidr-v6`, `default-address-pools`) must not overlap those of v6net. `ip6tables`, `experimental` and `iptables` in `daemon.json` make no difference but for the policy of `FORWARD`, which forward_drop judges",
		Fix:     "upgrade the engine; give Docker's own networks another prefix",
	}
}

// oldest are the versions with which v6net is tested.
var oldest = map[string][2]int{"Docker": {20, 10}, "Podman": {4, 5}}

func (engineVersion) Judge(f Facts) []Finding {
	var findings []Finding
	for _, e := range f.Engines {
		least, known := oldest[e.Name]
		if have, ok := twoNumbers(e.Version); known && ok && (have[0] < least[0] || have[0] == least[0] && have[1] < least[1]) {
			findings = append(findings, Finding{Level: Problem, On: e.Name, Found: "version " + e.Version, Expected: fmt.Sprintf("%d.%d or newer", least[0], least[1]), Fix: "upgrade " + e.Name})
		}
		for _, own := range e.Networks {
			if slices.ContainsFunc(f.Networks(), func(n spec.NetworkStatus) bool { return n.ID == own.ID }) {
				continue
			}
			for _, prefix := range own.IPv6 {
				for _, pool := range f.pools() {
					if prefix.Overlaps(pool) {
						findings = append(findings, Finding{Level: Problem, On: e.Name, Found: fmt.Sprintf("its network %s has %s, which overlaps %s of v6net", own.Name, prefix, pool),
							Expected: "prefixes apart", Fix: "change that network, or fixed-cidr-v6 and default-address-pools in /etc/docker/daemon.json"})
					}
				}
			}
		}
	}
	return findings
}

// twoNumbers are the first two of a version such as 20.10.24+dfsg1.
func twoNumbers(version string) (n [2]int, ok bool) {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return n, false
	}
	for i := range n {
		digits := strings.TrimLeft(parts[i], "0123456789")
		v, err := strconv.Atoi(strings.TrimSuffix(parts[i], digits))
		if err != nil {
			return n, false
		}
		n[i] = v
	}
	return n, true
}
