package main

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/names"
	"github.com/v6net/v6net/internal/spec"
)

// viewer prints events.
type viewer struct {
	command *watchCommand
	out     *os.File
	screen  screen
	names   func(context.Context) (names.Directory, error) // Docker's

	mu          sync.Mutex
	known       names.Directory
	asked       time.Time // when names were
	shown, lost uint64
	// Whether what was named on the command line was seen to be called so: then what has
	// an ID that begins so is not meant.
	network, container bool
	chosen             bool
	held               []heldEvent
	timer              *time.Timer // while there are held ones
}

// heldEvent is one that may be of what is wanted: Docker says what a new container is
// called only when it runs, and of a new network when it is made.
type heldEvent struct {
	spec.Event
	since time.Time
}

const (
	// namesWait is the least between two questions about names.
	namesWait = time.Second
	// heldTime is how long an event may wait for a name, which on a busy host is as long as
	// Docker takes to start a container, and maxHeld how many may.
	heldTime = time.Minute
	maxHeld  = 1024
)

func (v *viewer) summary() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	text := several(int(v.shown), "event")
	if v.lost > 0 {
		text += ", and " + several(int(v.lost), "other") + " lost"
	}
	return text
}

// choose looks what is called as the command line says. That nothing is yet is no error.
func (v *viewer) choose(ctx context.Context, client *control.Client) error {
	if v.chosen || v.command.Network == "" && v.command.Container == "" {
		return nil
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if v.known, err = v.names(ctx); err == nil {
		v.known.Status(&status)
	}
	v.chosen, v.asked = true, time.Now()
	how, networks := find(v.command.Network, status.Networks, networkNames)
	if v.network = how == exact; len(networks) > 1 && !v.network {
		return ambiguous("network", v.command.Network)
	}
	how, containers := find(v.command.Container, attachments(status), attachmentNames)
	if v.container = how == exact; !v.container && !sameHolder(containers) {
		return ambiguous("container", v.command.Container)
	}
	return nil
}

// show prints an event if it is wanted. One of which that cannot be told yet waits for
// its name; fail is called if it cannot be printed then.
func (v *viewer) show(ctx context.Context, fail context.CancelCauseFunc, e spec.Event) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.Type == spec.EventLost {
		v.lost += e.Lost
	}
	if v.known.Event(&e); v.known.Lacks(e) && time.Since(v.asked) >= namesWait {
		// Not for each event of a flood.
		v.ask(ctx)
		if err := v.release(); err != nil { // what came before it
			return err
		}
		v.known.Event(&e)
	}
	if !v.unsure(e) {
		return v.print(e)
	}
	if len(v.held) == maxHeld {
		v.lost++
		return nil
	}
	if v.held = append(v.held, heldEvent{e, time.Now()}); v.timer == nil {
		v.timer = time.AfterFunc(namesWait, func() { v.again(ctx, fail) })
	}
	return nil
}

// again asks for names that events wait for.
func (v *viewer) again(ctx context.Context, fail context.CancelCauseFunc) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ctx.Err() != nil || v.timer == nil {
		return
	}
	v.ask(ctx)
	if err := v.release(); err != nil {
		fail(err)
		return
	}
	if v.timer = nil; len(v.held) > 0 {
		v.timer = time.AfterFunc(namesWait, func() { v.again(ctx, fail) })
	}
}

// forget asks a last time for names of what waits, and lets go of it: its daemon has ended,
// or the watching. What is unsure even then counts as lost.
func (v *viewer) forget(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.timer != nil {
		v.timer.Stop()
	}
	var err error
	if len(v.held) > 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), namesWait)
		defer cancel()
		v.ask(ctx)
		err = v.release()
	}
	if err == nil {
		v.lost += uint64(len(v.held))
	}
	v.held, v.timer = nil, nil
	return err
}

// ask is what Docker is asked for that the daemon does not know.
func (v *viewer) ask(ctx context.Context) {
	if known, err := v.names(ctx); err == nil {
		v.known = known
	}
	v.asked = time.Now()
}

// release prints of the held events what is known to be wanted now, and lets go of what
// is known not to be. What has waited for long enough is lost.
func (v *viewer) release() error {
	var still []heldEvent
	held := v.held
	v.held = nil
	for i, h := range held {
		v.known.Event(&h.Event)
		if v.unsure(h.Event) {
			if time.Since(h.since) < heldTime {
				still = append(still, h)
			} else {
				v.lost++
			}
			continue
		}
		if err := v.print(h.Event); err != nil {
			v.held = held[i+1:]
			return err
		}
	}
	v.held = still
	return nil
}

// print prints an event if it is wanted.
func (v *viewer) print(e spec.Event) error {
	if !v.wanted(e) {
		return nil
	}
	// Others come before the watching has ended.
	if v.command.Count > 0 && v.shown >= uint64(v.command.Count) {
		return errEnough
	}
	var err error
	if v.command.JSON {
		err = printLine(v.out, e)
	} else {
		_, err = v.out.WriteString(eventLine(v.screen, e))
	}
	if err != nil || e.Type == spec.EventLost {
		return err
	}
	if v.shown++; v.shown == uint64(v.command.Count) {
		return errEnough
	}
	return nil
}

// wanted reports whether an event is of the network and container that were asked for.
func (v *viewer) wanted(e spec.Event) bool {
	return e.Type == spec.EventLost || v.ofNetwork(e) > unlike && v.ofContainer(e) > unlike
}

// unsure reports whether a name that is not known yet decides whether it is wanted.
func (v *viewer) unsure(e spec.Event) bool {
	network, container := v.ofNetwork(e), v.ofContainer(e)
	noNetwork := network == unlike && e.Network != "" && e.NetworkName == ""
	noContainer := container == unlike && e.Endpoint != "" && e.Container == ""
	return (noNetwork || noContainer) && (noNetwork || network > unlike) && (noContainer || container > unlike)
}

func (v *viewer) ofNetwork(e spec.Event) likeness {
	return meant(v.command.Network, &v.network, e.NetworkName, e.Network)
}

func (v *viewer) ofContainer(e spec.Event) likeness {
	return meant(v.command.Container, &v.container, e.Container, e.Endpoint, v.known.Containers[e.Endpoint].ID)
}

// meant is how well an event's network or container fits what was written, if anything
// was. Once something was called so, the beginning of an ID is nothing.
func meant(written string, called *bool, name string, ids ...string) likeness {
	if written == "" {
		return exact
	}
	how := like(written, name, ids...)
	if *called = *called || how == exact; *called && how == begins {
		return unlike
	}
	return how
}
