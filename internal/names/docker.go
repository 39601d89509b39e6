// Package names asks the Docker engine what people call the networks and containers
// that it has told v6net the IDs of alone.
package names

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/v6net/v6net/internal/dockerapi"
	"github.com/v6net/v6net/internal/spec"
)

// patience is how long the engine has: names are a comfort that nobody waits for.
const patience = 2 * time.Second

// A Directory is the names that an engine knows.
type Directory struct {
	Networks   map[string]string    // by ID
	Containers map[string]Container // by endpoint's ID
}

// Container is one of the engine's.
type Container struct{ ID, Name string }

// OfDocker asks the engine at socket. Where there is none the Directory is empty.
func OfDocker(ctx context.Context, socket string) (Directory, error) {
	d := Directory{Networks: map[string]string{}, Containers: map[string]Container{}}
	if _, err := os.Stat(socket); err != nil {
		return d, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	api := dockerapi.New(socket)
	var networks []struct {
		ID   string `json:"Id"`
		Name string
	}
	if err := api.Get(ctx, "/networks", &networks); err != nil {
		return d, err
	}
	for _, n := range networks {
		d.Networks[n.ID] = n.Name
	}
	var containers []struct {
		ID              string `json:"Id"`
		Names           []string
		NetworkSettings struct {
			Networks map[string]struct{ EndpointID string }
		}
	}
	if err := api.Get(ctx, "/containers/json", &containers); err != nil {
		return d, err
	}
	for _, c := range containers {
		for _, n := range c.NetworkSettings.Networks {
			if n.EndpointID != "" && len(c.Names) > 0 {
				d.Containers[n.EndpointID] = Container{c.ID, strings.TrimPrefix(c.Names[0], "/")}
			}
		}
	}
	return d, nil
}

// Status gives names to what has none in it.
func (d Directory) Status(s *spec.Status) {
	for i := range s.Networks {
		n := &s.Networks[i]
		if n.Name == "" {
			n.Name = d.Networks[n.ID]
		}
		for j := range n.Endpoints {
			ep := &n.Endpoints[j]
			if c, known := d.Containers[ep.ID]; known && ep.Name == "" {
				ep.Name, ep.Container = c.Name, c.ID
			}
		}
	}
}

// Event likewise.
func (d Directory) Event(e *spec.Event) {
	if e.NetworkName == "" {
		e.NetworkName = d.Networks[e.Network]
	}
	if e.Container == "" {
		e.Container = d.Containers[e.Endpoint].Name
	}
}

// Lacks reports whether an event is of a network or container that the directory does
// not know by name, and Event could not tell, either.
func (d Directory) Lacks(e spec.Event) bool {
	return e.Network != "" && e.NetworkName == "" || e.Endpoint != "" && e.Container == ""
}
