//go:build netns

package doctor_test

import (
	"net/netip"
	"testing"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/spec"
)

func TestDegraded(t *testing.T) {
	s := newScene(t)
	s.status.Networks[0].Error = "parent eth0: no such link"
	s.finds(t, "degraded", doctor.Problem, "network web", "no such link")
	s.status.Networks[0].Error = ""
	s.status.Networks[0].Notes = []string{"source pd lends no prefix on eth0 now"}
	s.finds(t, "degraded", doctor.Warning, "network web", "lends no prefix")
	s.status.Networks[0].Notes = nil
	s.status.Proxies = []spec.ProxyStatus{{Parent: "eth0", Conflicts: []spec.ProxyConflict{{Address: netip.MustParseAddr("2001:db8::5"), HardwareAddr: "02:00:00:00:00:09"}}}}
	s.finds(t, "degraded", doctor.Problem, "eth0", "2001:db8::5 is used by 02:00:00:00:00:09")
	s.status.Proxies = nil
	s.status.Delegations = []spec.DelegationStatus{{SourceOnLink: spec.SourceOnLink{Source: spec.SourcePD, Link: "eth0"}, Error: "no server answers"}}
	s.finds(t, "degraded", doctor.Warning, "source pd on eth0", "no server answers")
	s.status.Delegations = nil
	s.mended(t, "degraded")
}
