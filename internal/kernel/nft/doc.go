// Package nft puts a [firewall.Ruleset] into the kernel by netlink, in one
// atomic batch and without the nft program, and keeps it there.
//
// Two things of ours are in the kernel: the ruleset's tables, and for each family
// one rule in iptables-nft's forward chain, which accepts what our tables have
// vouched for. Nothing else of anyone's is ever changed.
package nft
