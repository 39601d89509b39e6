// Package ipam hands out the addresses of a prefix and carves prefixes out of
// larger ones. What it holds costs what is leased, never what could be: a /64 is
// as cheap as a /120.
//
// It is pure: no HTTP, no netlink, no files. Whether a neighbour already uses an
// address (duplicate address detection) and which leases survive a restart are
// its caller's business.
package ipam
