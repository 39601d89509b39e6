package doctor_test

import (
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/spec"
)

// A network that only one of Docker and v6net knows is found, with what removes it;
// Podman's are none of Docker's, and Docker's others none of ours.
func TestNetworksThatOneAloneKnows(t *testing.T) {
	id := strings.Repeat("ab", 32)
	has := func(n spec.Network) *spec.Status {
		return &spec.Status{Networks: []spec.NetworkStatus{{Network: n}}}
	}
	docker := func(networks ...doctor.EngineNetwork) []doctor.Engine {
		return []doctor.Engine{{Name: "Docker", Version: "29.0", Networks: networks}}
	}
	web := doctor.EngineNetwork{ID: id, Name: "web", Ours: true}
	for _, c := range []struct {
		name    string
		status  *spec.Status
		engines []doctor.Engine
		level   doctor.Level // empty: nothing is found
		fix     string
	}{
		{"both know it", has(spec.Network{ID: id}), docker(web), "", ""},
		{"Docker alone", &spec.Status{}, docker(web), doctor.Problem, "docker network rm web"},
		{"Docker alone, of another driver", &spec.Status{}, docker(doctor.EngineNetwork{ID: id, Name: "bridge"}), "", ""},
		{"v6net alone", has(spec.Network{ID: id}), docker(doctor.EngineNetwork{ID: "other"}), doctor.Warning, "v6net forget abababababab"},
		{"v6net alone, of Podman", has(spec.Network{ID: id, FrontEnd: "netavark"}), docker(), "", ""},
		{"Docker does not answer", has(spec.Network{ID: id}), []doctor.Engine{{Name: "Podman", Version: "5.4.2"}}, "", ""},
		{"no daemon answers", nil, docker(web), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := of(doctor.Examine(doctor.Facts{Status: c.status, Engines: c.engines}), "networks")
			switch {
			case c.level == "" && len(found) != 0:
				t.Errorf("found %+v", found)
			case c.level != "" && (len(found) != 1 || found[0].Level != c.level || !strings.Contains(found[0].Fix, c.fix)):
				t.Errorf("found %+v, want one %s that is mended by %q", found, c.level, c.fix)
			}
		})
	}
}
