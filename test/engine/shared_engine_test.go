//go:build engine

package engine_test

import (
	"testing"

	"github.com/v6net/v6net/internal/testengine"
)

// What leaves engine and plugin as they are shares one of each: a start takes
// seconds. Each part has to leave the host as it was, and the plugin, too.
func TestNetworks(t *testing.T) {
	onEveryEngine(t, testengine.Options{}, func(t *testing.T, l *lab) {
		before := hostState(t, l.host)
		l.installPlugin(t)
		parts := []part{
			{"main path", testMainPath},
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
		}
		if l.engine.KnowsNFTables() {
			parts = append(parts, part{"Docker's nftables", testDockersNFTables})
		}
		l.each(t, parts)
		// Not -f: a plugin that something still uses cannot be disabled.
		l.docker(t, "plugin", "disable", pluginName)
		mustEqual(t, "plugin disabled", before, hostState(t, l.host))
	})
}

// part is one of several tests that share a lab.
type part struct {
	name string
	test func(t *testing.T, l *lab)
}

// each runs parts one after another. Each has to leave the host as it was.
func (l *lab) each(t *testing.T, parts []part) {
	t.Helper()
	for _, p := range parts {
		l.traceless(t, p.name, func(t *testing.T) { p.test(t, l) })
	}
}
