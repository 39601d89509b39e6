// Package ndproxy answers neighbor solicitations on behalf of addresses that
// live behind this host (RFC 4861 §7.2.8).
//
// Its core is [Decide], a pure function from a received frame to a typed
// verdict. A [Proxy] feeds it from a [Conn], and a [Supervisor] keeps one Proxy
// per parent link, through links that go, come back and change their MAC.
//
// Three rules hold everywhere: only addresses with a live lease are answered
// for, an unknown target costs one lookup and no state (RFC 6583), and handling
// a packet allocates nothing.
//
// The package opens no socket; Conn is given to it.
package ndproxy
