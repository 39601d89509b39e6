package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/v6net/v6net/internal/doctor"
	elsewhere "github.com/v6net/v6net/internal/doctor/outside"
	"github.com/v6net/v6net/internal/kernel/facts"
	"github.com/v6net/v6net/internal/kernel/sysctl"
)

type doctorCommand struct {
	daemonSocket
	JSON     bool   `help:"Print JSON."`
	Fix      bool   `help:"Set what is safe to set, and say what was set and how to undo it."`
	Strict   bool   `help:"End with status 1 for warnings, too."`
	Online   bool   `help:"Ask DNS and a registry as well, over IPv6 alone, two seconds each at most."`
	Registry string `help:"The registry that --online asks; Docker's own if not given." placeholder:"HOST[:PORT]"`
}

// daemonPatience is how long the daemon has to say how it is.
const daemonPatience = 5 * time.Second

// report is what doctor prints; its JSON form is stable.
type report struct {
	Worst    doctor.Level     `json:"worst,omitempty"` // empty: nothing was found
	Findings []doctor.Finding `json:"findings"`
	Unknown  []doctor.Unknown `json:"unknown"` // what could not be found out
	NotAsked []string         `json:"not_asked,omitempty"`
	Set      []change         `json:"set,omitempty"` // by --fix, before the rest was found
}

// change is a setting that --fix has made.
type change struct {
	doctor.Setting
	Before string `json:"before"`
	Error  string `json:"error,omitempty"` // why it could not be set
}

// Validate is kong's.
func (c *doctorCommand) Validate() error {
	if c.Registry != "" && !c.Online {
		return errors.New("--registry needs --online")
	}
	return nil
}

// Run examines the host, and with --fix mends what it can and examines it again.
func (c *doctorCommand) Run(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return usageError{errors.New("doctor reads the kernel's firewall and asks on its links: run this as root")}
	}
	said := newProgress(func(text string) { fmt.Fprintf(os.Stderr, "v6net doctor: %s …\n", text) })
	defer said.end()
	r := c.examine(ctx, said)
	if c.Fix {
		if set := applySettings(ctx, sysctl.New(""), r.Findings); len(set) > 0 {
			r = c.examine(ctx, said)
			r.Set = set
		}
	}
	if c.JSON {
		if err := printJSON(os.Stdout, r); err != nil {
			return err
		}
	} else if err := printReport(os.Stdout, r, screenOf(os.Stdout)); err != nil {
		return err
	}
	if r.Worst == doctor.Problem || c.Strict && (r.Worst == doctor.Warning || len(r.Unknown) > 0) {
		return exitCode(exitSick)
	}
	return nil
}

// examine gathers facts, engines' beside the daemon's and the kernel's, and judges them.
func (c *doctorCommand) examine(ctx context.Context, said *progress) report {
	var f, engines doctor.Facts
	var asked sync.WaitGroup
	asked.Go(func() {
		e := elsewhere.Usual()
		e.On = said.on
		e.Gather(ctx, &engines)
	})
	c.askDaemon(ctx, &f, said)
	host := facts.New()
	host.On = said.on
	host.Gather(ctx, &f)
	asked.Wait()
	f.Engines, f.Unknown = engines.Engines, append(f.Unknown, engines.Unknown...)
	var notAsked []string
	switch name := c.registry(f); {
	case !c.Online:
		notAsked = []string{"dns", "registry"}
	case name == "":
		f.Unknown = append(f.Unknown, doctor.Unknown{What: "registry", Why: "no Docker engine names one: give --registry HOST"})
	default:
		done := said.on("DNS and " + name)
		elsewhere.Online{Registry: name}.Gather(ctx, &f)
		done()
	}
	r := report{Findings: doctor.Examine(f), Unknown: f.Unknown, NotAsked: notAsked}
	if r.Unknown == nil {
		r.Unknown = []doctor.Unknown{}
	}
	r.Worst = doctor.Worst(r.Findings)
	return r
}

func (c *doctorCommand) askDaemon(ctx context.Context, f *doctor.Facts, said *progress) {
	defer said.on("the daemon")()
	ctx, cancel := context.WithTimeout(ctx, daemonPatience)
	defer cancel()
	client, err := c.living(ctx)
	if err != nil {
		f.NoDaemon = err.Error()
		return
	}
	client.Waiting = nil // said does
	status, err := client.Status(ctx)
	if err != nil {
		f.NoDaemon = err.Error()
		return
	}
	f.Status = &status
}

// registry is the one to be asked.
func (c *doctorCommand) registry(f doctor.Facts) string {
	if c.Registry != "" {
		return c.Registry
	}
	for _, e := range f.Engines {
		if e.Online != "" {
			return e.Online
		}
	}
	return ""
}

// hostSettings are the host's sysctls (internal/kernel/sysctl).
type hostSettings interface {
	Get(ctx context.Context, key string) (string, error)
	Set(ctx context.Context, key, value string) error
}

// applySettings sets what findings say can be set, each once and in their order. Of
// a finding whose setting fails, the rest is left: it relies on what comes before.
func applySettings(ctx context.Context, host hostSettings, findings []doctor.Finding) []change {
	var set []change
	done := map[doctor.Setting]bool{}
	for _, f := range findings {
		for _, s := range f.Settings {
			if done[s] {
				continue
			}
			done[s] = true
			c := change{Setting: s}
			var err error
			if c.Before, err = host.Get(ctx, s.Key); err == nil {
				err = host.Set(ctx, s.Key, s.Value)
			}
			if err != nil {
				c.Error = err.Error()
			}
			if set = append(set, c); err != nil {
				break
			}
		}
	}
	return set
}
