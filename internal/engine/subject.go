package engine

import "github.com/v6net/v6net/internal/spec"

// subject is what a line of the log about an endpoint says it is about, with more
// attributes behind: network and endpoint, and the container's name where its engine
// has told it.
func subject(ep spec.Endpoint, more ...any) []any {
	about := []any{"network", ep.NetworkID, "endpoint", ep.ID}
	if ep.Name != "" {
		about = append(about, "container", ep.Name)
	}
	return append(about, more...)
}

// aboutNetwork is the same of a network, with its name where its engine has told it.
func aboutNetwork(n spec.Network, more ...any) []any {
	about := []any{"network", n.ID}
	if n.Name != "" {
		about = append(about, "name", n.Name)
	}
	return append(about, more...)
}
