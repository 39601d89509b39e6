// Package engine keeps the desired state of networks, endpoints and pools and
// makes the kernel match it.
//
// Every operation writes its intent to the journal, applies idempotent steps to
// the kernel, undoes them in reverse when one fails, and writes the outcome. A
// start replays the journal and removes what carries our mark and is not in it.
//
// The engine knows the kernel only through the small interfaces of host.go.
package engine
