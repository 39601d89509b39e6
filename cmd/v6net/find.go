package main

import (
	"fmt"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

// shortestID is how much of an ID says which one is meant.
const shortestID = 4

// likeness is how well something fits what was written on the command line.
type likeness int

const (
	unlike likeness = iota
	begins          // it has an ID that begins so
	exact           // it is called so, or that is its ID
)

// like compares what was written with a name and IDs, each of which may be unknown.
func like(written, name string, ids ...string) likeness {
	best := unlike
	for _, id := range ids {
		switch {
		case written != "" && id == written:
			return exact
		case len(written) >= shortestID && strings.HasPrefix(id, written):
			best = begins
		}
	}
	if written != "" && name == written {
		return exact
	}
	return best
}

// find is which of all are meant: those that are called so or have that ID, and only if
// there is none, those with an ID that begins so.
func find[T any](written string, all []T, names func(T) (name string, ids []string)) (how likeness, found []T) {
	for _, one := range all {
		name, ids := names(one)
		switch l := like(written, name, ids...); {
		case l == unlike || l < how:
		case l > how:
			how, found = l, []T{one}
		default:
			found = append(found, one)
		}
	}
	return how, found
}

// ambiguous says that more than one is meant.
func ambiguous(what, written string) error {
	return usageError{fmt.Errorf("%q is the name of more than one %s, or the beginning of more than one's ID: say more of the ID", written, what)}
}

func networkNames(n spec.NetworkStatus) (name string, ids []string) { return n.Name, []string{n.ID} }

// findNetwork is the one network that is meant.
func findNetwork(status spec.Status, written string) (spec.NetworkStatus, error) {
	_, found := find(written, status.Networks, networkNames)
	switch len(found) {
	case 0:
		return spec.NetworkStatus{}, notFound{fmt.Errorf("no network of v6net's is called %q, nor has an ID that begins so (see them with `v6net status`)", written)}
	case 1:
		return found[0], nil
	default:
		return spec.NetworkStatus{}, ambiguous("network", written)
	}
}

// attachment is a container on a network.
type attachment struct {
	spec.Endpoint
	network spec.NetworkStatus
}

// attachments are those of all networks.
func attachments(status spec.Status) (all []attachment) {
	for _, n := range status.Networks {
		for _, ep := range n.Endpoints {
			all = append(all, attachment{ep, n})
		}
	}
	return all
}

func attachmentNames(a attachment) (name string, ids []string) {
	return a.Name, []string{a.ID, a.Container}
}

// holder is what tells containers apart, whatever networks they are on.
func (a attachment) holder() string {
	for _, known := range []string{a.Container, a.Sandbox} {
		if known != "" {
			return known
		}
	}
	return a.ID
}

// sameHolder reports whether all are one container's.
func sameHolder(all []attachment) bool {
	for _, a := range all {
		if a.holder() != all[0].holder() {
			return false
		}
	}
	return true
}
