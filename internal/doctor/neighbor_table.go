package doctor

import (
	"fmt"
	"strconv"
)

// NeighborTable is the kernel's of a family: one for the host and the network namespaces
// of all containers (struct neigh_table in include/net/neighbour.h).
type NeighborTable struct {
	Entries int
	Full    int // how often a neighbour found no room there since the boot
}

type neighborTable struct{}

func (neighborTable) About() About {
	return About{
		Name:    "neighbor_table",
		Symptom: "containers, and machines of the link, are not reached at times, `ping` says \"Invalid argument\" or \"No buffer space available\", and the kernel's log \"neighbour: ndisc_cache: neighbor table overflow!\"",
		Why:     "the host and the namespaces of all containers share one neighbor table of each family, of 1,024 entries unless `gc_thresh3` says otherwise: a container takes some of them, and one that scans its own network, or a link of the host's, needs no privilege to take all, so that nobody finds a new neighbor until it ends. More room makes that harder, not impossible",
		Fix:     "`sysctl -w net/ipv6/neigh/default/gc_thresh3=16384 net/ipv6/neigh/default/gc_thresh2=8192`, the same for `ipv4`, and both in `/etc/sysctl.d`; `--fix` sets them until the next boot. An entry takes half a kilobyte while it is there. Find a container that scans by `ip -6 neigh show nud failed` on the host and, with `nsenter`, in the containers",
	}
}

// What a neighbour table is to have room for.
const (
	someNeighbors = 16384 // so that who fills it has to ask for some 5,000 a second: the kernel gives up each after three
	perContainer  = 8     // the host's entries of it, its own of the gateway, and a few peers
)

func (neighborTable) Judge(f Facts) []Finding {
	var findings []Finding
	for _, family := range []struct{ name, containers string }{{"ipv6", "IPv6"}, {"ipv4", "IPv4"}} {
		key := "net/" + family.name + "/neigh/default/gc_thresh"
		limit, err := strconv.Atoi(f.Sysctls[key+"3"])
		networks, containers := f.attached(family.name == "ipv6")
		if err != nil || networks == 0 {
			continue
		}
		table := f.Neighbors[family.name]
		want := someNeighbors
		for want < perContainer*containers || want/4*3 < table.Entries {
			want *= 2
		}
		if limit >= want {
			continue
		}
		found := Finding{Level: Note, Found: fmt.Sprintf("%s3=%d for %d containers with %s; %d entries are in the table", key, limit, containers, family.containers, table.Entries),
			Expected: fmt.Sprintf("%d or more", want), Settings: []Setting{{key + "3", strconv.Itoa(want)}}}
		if table.Full > 0 {
			found.Found += fmt.Sprintf(", which had no room for another one %d times since the boot", table.Full)
		}
		if table.Full > 0 || limit < perContainer/2*containers || limit/4*3 < table.Entries {
			found.Level = Warning
		}
		// Above this many the kernel looks for entries to drop, however much room there is.
		if second, err := strconv.Atoi(f.Sysctls[key+"2"]); err == nil && second < want/2 {
			found.Settings = append(found.Settings, Setting{key + "2", strconv.Itoa(want / 2)})
		}
		found.Fix = sysctlCommand(found.Settings...) + ", and the same in /etc/sysctl.d"
		findings = append(findings, found)
	}
	return findings
}

// attached counts the networks of a family, and the containers that have an address there.
func (f Facts) attached(v6 bool) (networks, containers int) {
	for _, n := range f.Networks() {
		subnets := n.IPv4
		if v6 {
			subnets = n.IPv6
		}
		if len(subnets) == 0 {
			continue
		}
		networks++
		for _, e := range n.Endpoints {
			if v6 && e.IPv6.IsValid() || !v6 && e.IPv4.IsValid() {
				containers++
			}
		}
	}
	return networks, containers
}
