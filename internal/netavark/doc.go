// Package netavark is Podman's front end: the plugin protocol of netavark 1.6 to
// 2.x, as Podman 4.5 to 6 speaks it. It turns netavark's JSON into requests to the
// daemon and the outcome into JSON. It touches no kernel; the interfaces in
// plugin.go are what it needs of others.
//
// A plugin is one process a call: JSON on standard input and output, failures as
// {"error": …} and a non-zero status. It has no hook for networks that are deleted,
// so folder.go says which are there still.
package netavark
