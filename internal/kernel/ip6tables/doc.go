// Package ip6tables keeps a [firewall.Ruleset] in the kernel by ip6tables-restore
// and iptables-restore, for hosts that have no nftables or are to do without.
//
// It follows the same chains as package nft: each is compiled to a chain of
// iptables of its own, for each family. What is a set there is a list of rules
// here, and a tree of chains where the list is long, so that ipset is not needed.
// What judges forwarded packets is in the mangle table, before the filter tables of
// others: as with nftables, a drop there is final, and what is accepted carries
// [firewall.VouchMark], which one rule in FORWARD accepts.
//
// Of others' chains those rules alone are changed that jump to ours, or accept what
// we have vouched for, each with the comment "v6net". No chain of theirs is flushed.
//
// What rules do to packets is tested in package nft, by one table for both.
package ip6tables
