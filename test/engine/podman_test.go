//go:build engine

package engine_test

import (
	"testing"
)

// Podman, by the same cases as Docker.
func TestPodman(t *testing.T) {
	onPodman(t, func(t *testing.T, l *lab, _ *podmanDaemon) {
		for _, part := range []struct {
			name string
			test func(t *testing.T, l *lab)
		}{
			{"main path", testMainPath},
			{"sources", testSources},
			{"options", testOptions},
			{"duplicate addresses", testDAD},
			{"several networks", testSeveralNetworks},
			{"advertisements", testAdvertisements},
			{"parallel", testParallel},
		} {
			l.traceless(t, part.name, func(t *testing.T) { part.test(t, l) })
		}
	})
}
