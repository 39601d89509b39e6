// Package driver is Docker's front end: libnetwork's remote network driver and
// remote IPAM driver protocols, served together on one unix socket. It turns
// their JSON into values of package spec, calls the engine, and turns the
// outcome into JSON. It holds no state and touches no kernel.
//
// The protocols are those of moby's daemon/libnetwork/drivers/remote and
// daemon/libnetwork/ipams/remote, engines 20.10 to 29. The wire types come from
// docker/go-plugins-helpers where they fit; what has been added to the
// protocols since they were written is in wire.go.
package driver
