package names_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/names"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testdocker"
)

// engine has two networks, and these containers.
func engine(t *testing.T, containers string) string {
	t.Helper()
	return testdocker.Serve(t, map[string]string{
		"/networks":        `[{"Id":"n1","Name":"front"},{"Id":"n2","Name":"bridge"}]`,
		"/containers/json": containers,
	})
}

func TestOfDocker(t *testing.T) {
	d, err := names.OfDocker(t.Context(), engine(t, `[
		{"Id":"c1","Names":["/web","/other/alias"],"NetworkSettings":{"Networks":{"front":{"EndpointID":"e1"},"bridge":{"EndpointID":"e9"}}}},
		{"Id":"c2","Names":["/starting"],"NetworkSettings":{"Networks":{"front":{"EndpointID":""}}}},
		{"Id":"c3","Names":[],"NetworkSettings":{"Networks":{"front":{"EndpointID":"e3"}}}}]`))
	if err != nil {
		t.Fatal(err)
	}
	s := spec.Status{Networks: []spec.NetworkStatus{
		{Network: spec.Network{ID: "n1"}, Endpoints: []spec.Endpoint{{ID: "e1"}, {ID: "e2"}, {ID: "e3"}}},
		{Network: spec.Network{ID: "p1", Name: "podmans"}, Endpoints: []spec.Endpoint{{ID: "e9", Name: "db", Container: "p"}}},
	}}
	d.Status(&s)
	front, podmans := s.Networks[0], s.Networks[1]
	if front.Name != "front" || front.Endpoints[0].Name != "web" || front.Endpoints[0].Container != "c1" || front.Endpoints[1].Name != "" || front.Endpoints[2].Name != "" {
		t.Errorf("named %+v", front)
	}
	if podmans.Name != "podmans" || podmans.Endpoints[0].Name != "db" || podmans.Endpoints[0].Container != "p" {
		t.Errorf("what had names has others: %+v", podmans)
	}
	e := spec.Event{Network: "n1", Endpoint: "e1"}
	if !d.Lacks(e) {
		t.Error("an event without names has them")
	}
	if d.Event(&e); e.NetworkName != "front" || e.Container != "web" || d.Lacks(e) {
		t.Errorf("named %+v", e)
	}
	if e = (spec.Event{Network: "n1", Endpoint: "new"}); !d.Lacks(e) {
		t.Error("a new container is not missed")
	}
}

func TestNoDocker(t *testing.T) {
	d, err := names.OfDocker(t.Context(), filepath.Join(t.TempDir(), "none"))
	if err != nil || len(d.Networks) > 0 {
		t.Errorf("where there is none: %v, %v", d, err)
	}
	if _, err := names.OfDocker(t.Context(), engine(t, `nonsense`)); err == nil || !strings.Contains(err.Error(), "/containers/json") {
		t.Errorf("an answer that is none: %v", err)
	}
}
