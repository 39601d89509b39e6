// Package outside asks for what doctor judges beyond the kernel: the container
// engines of the host and, if that is wanted, DNS and the registry. Whatever is
// asked has two seconds to answer, and engines are asked at the same time.
package outside

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/v6net/v6net/internal/dockerapi"
	"github.com/v6net/v6net/internal/doctor"
)

// patience is how long whoever is asked has; an engine has more, which may have to be
// started for it on a busy machine.
const (
	patience       = 2 * time.Second
	enginePatience = 5 * time.Second
)

// Engines says where the container engines of a host are.
type Engines struct {
	Docker string // its API's socket
	Podman string // its program
	// On is told who is asked, and calls done when that is over; nil: nobody is told.
	On func(who string) (done func())
}

// Usual is where they are unless $DOCKER_HOST names another socket of Docker's.
func Usual() Engines {
	e := Engines{Docker: "/var/run/docker.sock", Podman: "podman"}
	if socket, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); ok {
		e.Docker = socket
	}
	return e
}

// Gather adds the engines that are there to f.
func (e Engines) Gather(ctx context.Context, f *doctor.Facts) {
	var asked sync.WaitGroup
	ask := func(name string, ask func(context.Context) (doctor.Engine, error)) (add func()) {
		var engine doctor.Engine
		var err error
		asked.Go(func() {
			if e.On != nil {
				defer e.On(name)()
			}
			ctx, cancel := context.WithTimeout(ctx, enginePatience)
			defer cancel()
			engine, err = ask(ctx)
		})
		return func() {
			if err != nil {
				f.Unknown = append(f.Unknown, doctor.Unknown{What: name, Why: err.Error()})
				return
			}
			f.Engines = append(f.Engines, engine)
		}
	}
	var adds []func()
	if _, err := os.Stat(e.Docker); err == nil {
		adds = append(adds, ask("Docker", e.docker))
	}
	if program, err := exec.LookPath(e.Podman); err == nil {
		adds = append(adds, ask("Podman", func(ctx context.Context) (doctor.Engine, error) { return podman(ctx, program) }))
	}
	asked.Wait()
	for _, add := range adds {
		add()
	}
}

// docker asks the engine by its API.
func (e Engines) docker(ctx context.Context) (doctor.Engine, error) {
	api := dockerapi.New(e.Docker)
	var version struct {
		Version    string
		Components []struct{ Name string }
	}
	if err := api.Get(ctx, "/version", &version); err != nil {
		return doctor.Engine{}, err
	}
	engine := doctor.Engine{Name: "Docker", Version: version.Version}
	for _, c := range version.Components {
		if strings.HasPrefix(c.Name, "Podman") { // which answers for Docker, on its socket even
			engine.Name = "Podman"
		}
	}
	var info struct{ IndexServerAddress string }
	if err := api.Get(ctx, "/info", &info); err != nil {
		return engine, err
	}
	if u, err := url.Parse(info.IndexServerAddress); err == nil {
		engine.Online = u.Host
	}
	var networks []struct {
		ID                  string `json:"Id"`
		Name, Driver, Scope string
		ConfigOnly          bool
		IPAM                struct{ Config []struct{ Subnet string } }
	}
	if err := api.Get(ctx, "/networks", &networks); err != nil {
		return engine, err
	}
	for _, n := range networks {
		// A swarm's is made on a node with the first container there, one of configuration alone never.
		network := doctor.EngineNetwork{ID: n.ID, Name: n.Name, Ours: isOurs(n.Driver) && n.Scope != "swarm" && !n.ConfigOnly}
		for _, c := range n.IPAM.Config {
			if p, err := netip.ParsePrefix(c.Subnet); err == nil && p.Addr().Is6() {
				network.IPv6 = append(network.IPv6, p)
			}
		}
		engine.Networks = append(engine.Networks, network)
	}
	return engine, nil
}

// isOurs reports whether a network's driver is v6net: the service is called so, and a
// managed plugin by its repository and tag, registry.example:5000/v6net:latest.
func isOurs(driver string) bool {
	name, _, _ := strings.Cut(path.Base(driver), ":")
	return name == "v6net"
}

// podman has no daemon that could be asked; its program says `podman version 5.4.2`.
func podman(ctx context.Context, program string) (doctor.Engine, error) {
	command := exec.CommandContext(ctx, program, "--version")
	command.WaitDelay = 100 * time.Millisecond // of children that keep its output open
	out, err := command.Output()
	if err != nil {
		return doctor.Engine{}, fmt.Errorf("run %s --version: %w", program, errors.Join(err, ctx.Err()))
	}
	words := strings.Fields(string(out))
	if len(words) < 3 {
		return doctor.Engine{}, fmt.Errorf("%s --version said %q", program, out)
	}
	return doctor.Engine{Name: "Podman", Version: words[2]}, nil
}
