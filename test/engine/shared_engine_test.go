//go:build engine

package engine_test

import (
	"testing"

	"github.com/v6net/v6net/internal/testengine"
)

// What leaves engine and plugin as they are shares one of each: a start takes
// seconds. Each part has to leave the host as it was.
func TestNetworks(t *testing.T) {
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		l.installPlugin(t)
		for _, part := range []struct {
			name string
			test func(t *testing.T, l *lab)
		}{
			{"sources", testSources},
			{"options", testOptions},
			{"duplicate addresses", testDAD},
			{"refusals", testRefusals},
			{"several networks", testSeveralNetworks},
			{"IPv6 only", testIPv6Only},
			{"advertisements", testAdvertisements},
			{"macvlan", testMacvlan},
			{"ipvlan", testIPvlan},
			{"examples", testExamples},
			{"parallel", testParallel},
		} {
			l.traceless(t, part.name, func(t *testing.T) { part.test(t, l) })
		}
	})
}
