package outside_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/v6net/v6net/internal/doctor"
	"github.com/v6net/v6net/internal/doctor/outside"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testdocker"
)

// docker is an engine of some version.
func docker(t *testing.T, version string) string {
	t.Helper()
	return testdocker.Serve(t, map[string]string{
		"/version": version,
		"/info":    `{"IndexServerAddress":"https://registry.example/v1/"}`,
		"/networks": `[{"Id":"d1","Name":"bridge","Driver":"bridge","Scope":"local","IPAM":{"Config":[{"Subnet":"172.17.0.0/16"},{"Subnet":"2001:db8:1::/80"}]}},
			{"Id":"ours","Name":"web","Driver":"registry.example:5000/v6net:latest","Scope":"local","IPAM":{"Config":[{"Subnet":"2001:db8:2::/64"}]}},
			{"Id":"pattern","Name":"pattern","Driver":"v6net","Scope":"local","ConfigOnly":true,"IPAM":{"Config":null}},
			{"Id":"swarm","Name":"swarm","Driver":"v6net:latest","Scope":"swarm","IPAM":{"Config":null}}]`,
	})
}

func podman(t *testing.T, says string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "podman")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+says+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEngines(t *testing.T) {
	var f doctor.Facts
	outside.Engines{Docker: docker(t, `{"Version":"20.10.24+dfsg1","ApiVersion":"1.41","Components":[{"Name":"Engine"}]}`), Podman: podman(t, "echo podman version 5.4.2")}.Gather(t.Context(), &f)
	want := []doctor.Engine{
		{Name: "Docker", Version: "20.10.24+dfsg1", Online: "registry.example", Networks: []doctor.EngineNetwork{
			{ID: "d1", Name: "bridge", IPv6: []netip.Prefix{netip.MustParsePrefix("2001:db8:1::/80")}},
			{ID: "ours", Name: "web", Ours: true, IPv6: []netip.Prefix{netip.MustParsePrefix("2001:db8:2::/64")}},
			{ID: "pattern", Name: "pattern"}, {ID: "swarm", Name: "swarm"}}},
		{Name: "Podman", Version: "5.4.2"},
	}
	if diff := cmp.Diff(want, f.Engines, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || f.Unknown != nil {
		t.Errorf("engines (-want +got), and %v unknown:\n%s", f.Unknown, diff)
	}
	if found := engineFindings(f); len(found) != 0 {
		t.Errorf("of good engines there is found %+v", found)
	}

	ours := spec.Network{ID: "ours", IPv6: []spec.Subnet{{Prefix: netip.MustParsePrefix("2001:db8:2::/64")}}}
	f.Status = &spec.Status{Networks: []spec.NetworkStatus{{Network: ours}}}
	if found := engineFindings(f); len(found) != 0 {
		t.Errorf("of a network that is ours there is found %+v", found)
	}
	f.Status.Networks[0].IPv6[0].Prefix = netip.MustParsePrefix("2001:db8:1::/64")
	if found := engineFindings(f); len(found) != 1 || found[0].Level != doctor.Problem {
		t.Errorf("of a network of Docker's in a prefix of ours there is found %+v", found)
	}
}

func TestOldEngines(t *testing.T) {
	var f doctor.Facts
	outside.Engines{Docker: docker(t, `{"Version":"19.03.15"}`), Podman: podman(t, "echo podman version 4.3.1")}.Gather(t.Context(), &f)
	found := engineFindings(f)
	if len(found) != 2 || found[0].Found != "version 19.03.15" || found[1].Found != "version 4.3.1" {
		t.Errorf("of engines that are too old there is found %+v", found)
	}
}

// Podman answers for Docker where podman-docker is installed.
func TestPodmanOnDockersSocket(t *testing.T) {
	var f doctor.Facts
	outside.Engines{Docker: docker(t, `{"Version":"4.9.3","Components":[{"Name":"Podman Engine"}]}`), Podman: "none"}.Gather(t.Context(), &f)
	if len(f.Engines) != 1 || f.Engines[0].Name != "Podman" || len(engineFindings(f)) != 0 {
		t.Errorf("engines %+v, found %+v", f.Engines, engineFindings(f))
	}
}

// None is nothing wrong; one that does not answer is told of.
func TestNoEngines(t *testing.T) {
	var f doctor.Facts
	outside.Engines{Docker: filepath.Join(t.TempDir(), "none"), Podman: filepath.Join(t.TempDir(), "none")}.Gather(t.Context(), &f)
	if f.Engines != nil || f.Unknown != nil {
		t.Errorf("engines %+v, unknown %v", f.Engines, f.Unknown)
	}
	stale := filepath.Join(t.TempDir(), "stale.sock")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	outside.Engines{Docker: stale, Podman: podman(t, "exit 3")}.Gather(t.Context(), &f)
	if len(f.Unknown) != 2 || f.Engines != nil {
		t.Errorf("engines %+v, unknown %v, want both unknown", f.Engines, f.Unknown)
	}
}

// Engines that hang have two seconds, and those at the same time: each is asked before
// the other one's time is over. What it leaves running keeps nobody.
func TestEnginesThatHang(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", path) // and nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was sent
	asked := make(chan string, 4)
	e := outside.Engines{Docker: path, Podman: podman(t, "sleep 20 & sleep 20"), On: func(who string) func() {
		asked <- "asking " + who
		return func() { asked <- "asked " + who }
	}}
	var f doctor.Facts
	e.Gather(t.Context(), &f)
	for i, want := range []string{"asking", "asking", "asked", "asked"} {
		if got := <-asked; !strings.HasPrefix(got, want+" ") {
			t.Errorf("%d: %s, want %s", i, got, want)
		}
	}
	if len(f.Unknown) != 2 || f.Engines != nil {
		t.Errorf("of engines that hang: %+v, unknown %+v", f.Engines, f.Unknown)
	}
}

func engineFindings(f doctor.Facts) []doctor.Finding {
	var found []doctor.Finding
	for _, x := range doctor.Examine(f) {
		if x.Check == "engine" {
			found = append(found, x)
		}
	}
	return found
}
