package nft

import (
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// legacyTables list the tables that iptables-legacy has made in this network
// namespace, one a line. The files are there once its modules are.
var legacyTables = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "/proc/net/ip_tables_names",
	nftables.TableFamilyIPv6: "/proc/net/ip6_tables_names",
}

// warnOfLegacy says once that Docker's rules, or another's, are where we cannot
// put ours: no forward chain in nftables, and one in iptables-legacy.
func (f *Firewall) warnOfLegacy(family nftables.TableFamily, wanted bool) {
	if !wanted || f.warned[family] {
		return
	}
	names, err := os.ReadFile(legacyTables[family])
	if err != nil || !slices.Contains(strings.Fields(string(names)), foreignTable) {
		return
	}
	f.warned[family] = true
	f.log.Warn("firewall: this host filters by iptables-legacy, where our packets cannot be accepted: if its policy is DROP, containers are cut off. "+
		"Switch Docker and the host to iptables-nft, or add there: -I FORWARD "+acceptOptions+" -j ACCEPT",
		"family", familyName(family), "tables", legacyTables[family])
}
