// Package prefix decides where a pool's prefix comes from: the one that the user
// named, a free part of what a source lends on a link or of the parent's on-link
// prefix, a unique local prefix, or private IPv4; and what becomes of the networks
// when a source lends something else.
//
// It is pure: what it must know of the host, and of what is lent, it asks a Host,
// and it changes nothing itself. A prefix that it chose is in use once the caller
// passes it back as such. What lends is in packages of its own: pd, cloud, and
// sources, which runs them.
package prefix
