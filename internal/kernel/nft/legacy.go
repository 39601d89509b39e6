package nft

import "github.com/google/nftables"

// legacyTables list the tables that iptables-legacy has made in this network
// namespace, one a line. The files are there once its modules are.
var legacyTables = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "/proc/net/ip_tables_names",
	nftables.TableFamilyIPv6: "/proc/net/ip6_tables_names",
}
