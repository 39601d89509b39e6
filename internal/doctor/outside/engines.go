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
	if path, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); ok {
		e.Docker = path
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
	if path, err := exec.LookPath(e.Podman); err == nil {
		adds = append(adds, ask("Podman", func(ctx context.Context) (doctor.Engine, error) { return podman(ctx, path) }))
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
		ID   string `json:"Id"`
		IPAM struct{ Config []struct{ Subnet string } }
	}
	if err := api.Get(ctx, "/networks", &networks); err != nil {
		return engine, err
	}
	for _, n := range networks {
		for _, c := range n.IPAM.Config {
			if p, err := netip.ParsePrefix(c.Subnet); err == nil && p.Addr().Is6() {
				engine.Pools = append(engine.Pools, doctor.EnginePool{Network: n.ID, Prefix: p})
			}
		}
	}
	return engine, nil
}

// podman has no daemon that could be asked; its program says `podman version 5.4.2`.
func podman(ctx context.Context, path string) (doctor.Engine, error) {
	command := exec.CommandContext(ctx, path, "--version")
	command.WaitDelay = 100 * time.Millisecond // of children that keep its output open
	out, err := command.Output()
	if err != nil {
		return doctor.Engine{}, fmt.Errorf("run %s --version: %w", path, errors.Join(err, ctx.Err()))
	}
	words := strings.Fields(string(out))
	if len(words) < 3 {
		return doctor.Engine{}, fmt.Errorf("%s --version said %q", path, out)
	}
	return doctor.Engine{Name: "Podman", Version: words[2]}, nil
}
