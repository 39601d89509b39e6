// Package prefix decides where a pool's prefix comes from: the one that the user
// named, a free part of the parent's on-link prefix, a unique local prefix, or
// private IPv4.
//
// It is pure: what it must know of the host it asks a Host, and it changes
// nothing. A prefix that it chose is in use once the caller passes it back as such.
package prefix
