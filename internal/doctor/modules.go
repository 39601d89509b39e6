package doctor

import (
	"slices"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// What the kernel is tried for. The kinds of links are as ip-link(8) has them.
const (
	KindBridge   = "bridge"
	KindVeth     = "veth"
	KindMacvlan  = "macvlan"
	KindIPvlan   = "ipvlan"
	KindVLAN     = "vlan"
	NFTables     = "nftables"
	NFTBridge    = "nftables on bridges"
	NFTConntrack = "connection tracking in nftables"
	NFTNAT       = "address translation in nftables"
)

// Tried are all of them.
func Tried() []string {
	return []string{KindBridge, KindVeth, KindMacvlan, KindIPvlan, KindVLAN, NFTables, NFTBridge, NFTConntrack, NFTNAT}
}

// moduleOf is what has to be loaded, or built in.
var moduleOf = map[string]string{
	KindBridge: "bridge", KindVeth: "veth", KindMacvlan: "macvlan", KindIPvlan: "ipvlan", KindVLAN: "8021q",
	NFTables: "nf_tables", NFTBridge: "nf_tables (CONFIG_NF_TABLES_BRIDGE)", NFTConntrack: "nft_ct", NFTNAT: "nft_chain_nat and nft_masq",
}

type modules struct{}

func (modules) About() About {
	return About{
		Name:    "modules",
		Symptom: "`docker network create` fails with \"operation not supported\"; or containers send from addresses that are not theirs (nftables on bridges)",
		Why:     "v6net works with what the kernel can make; each kind is tried in a network namespace that is gone afterwards. Without nftables rules are kept by ip6tables and iptables",
		Fix:     "install the kernel's full modules package (Debian: `linux-image-amd64` in place of `-cloud-`), or `modprobe` what is named; a kernel that was updated finds its modules only after a restart of the machine",
	}
}

func (modules) Judge(f Facts) []Finding {
	needed := map[string]Level{KindBridge: Problem, KindVeth: Problem, NFTables: Problem, NFTConntrack: Problem, NFTNAT: Problem, NFTBridge: Warning}
	for _, n := range f.Networks() {
		switch n.Options.Mode {
		case spec.ModeMacvlan:
			needed[KindMacvlan] = Problem
		case spec.ModeIPvlan:
			needed[KindIPvlan] = Problem
		}
		if _, _, isVLAN := spec.ParseVLAN(n.Parent); isVLAN {
			needed[KindVLAN] = Problem
		}
	}
	var findings []Finding
	if f.Status != nil && strings.HasPrefix(f.Status.Firewall, "iptables") {
		for _, unused := range []string{NFTables, NFTConntrack, NFTNAT, NFTBridge} {
			delete(needed, unused)
		}
	} else if slices.Contains(f.Missing, NFTables) {
		delete(needed, NFTConntrack)
		delete(needed, NFTNAT)
		delete(needed, NFTBridge)
		needed[NFTables] = Warning // ip6tables does in its place, if that works
	}
	for _, what := range Tried() {
		level, is := needed[what]
		if is && slices.Contains(f.Missing, what) {
			findings = append(findings, Finding{Level: level, On: what, Found: "the kernel does not have it", Expected: "the kernel has it, built in or as a module",
				Fix: "modprobe " + moduleOf[what]})
		}
	}
	return findings
}
