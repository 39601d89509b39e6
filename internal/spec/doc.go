// Package spec holds the plain values that the rest of v6net speaks in: networks,
// endpoints, pools, ports and options, with their parsing and validation.
//
// It imports nothing of ours and touches no kernel, file or socket.
package spec
