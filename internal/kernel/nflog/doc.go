// Package nflog reads what the rules of package firewall tell of packets that they drop:
// the kernel's nfnetlink_log, one group of it.
//
// It speaks that protocol itself: it is two messages, and the library for it
// (github.com/florianl/go-nflog) was not to be had when this was written.
package nflog
