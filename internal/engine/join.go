package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// Join hands an endpoint's link to the container runtime.
func (e *Engine) Join(ctx context.Context, networkID, id, sandbox string) (spec.Attachment, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, err := e.network(networkID)
	if err != nil {
		return spec.Attachment{}, err
	}
	ep, err := e.living(networkID, id)
	if err != nil {
		return spec.Attachment{}, err
	}
	if !ep.Joined {
		err = e.applyEndpoint(ctx, n, ep)
	}
	if err == nil {
		err = e.join(ctx, ep, sandbox)
	}
	if err != nil {
		return spec.Attachment{}, fmt.Errorf("network %s: endpoint %s: join: %w", spec.ShortID(networkID), spec.ShortID(id), err)
	}
	return e.mode(n.Options).attachment(ctx, n, ep), nil
}

// join notes which sandbox an endpoint is in. Where others are, each may send from
// the addresses of all.
func (e *Engine) join(ctx context.Context, ep *endpoint, sandbox string) error {
	was := *ep
	joined := was
	joined.Sandbox, joined.Joined = sandbox, true
	steps := []step{{what: "mark", do: func(ctx context.Context) error { return e.markHere(ctx, ep.ID) }}}
	if beside := e.besides(ep.ID, &was, &joined); len(beside) > 0 {
		steps = append(steps, step{
			what: "rules",
			do:   func(ctx context.Context) error { return e.applyContainer(ctx, &was, &joined) },
			undo: func(ctx context.Context) error { return e.applyContainer(ctx, &joined, &was) },
		})
	}
	return run(ctx, append(steps, step{
		what: "journal",
		do: func(context.Context) error {
			if err := e.Journal.PutEndpoint(joined.Endpoint); err != nil {
				return err
			}
			e.enter(ep, sandbox)
			ep.Joined, ep.here = true, time.Now()
			e.tellEndpoint("joined", ep)
			e.awaitTaken(ep)
			return nil
		},
	}))
}

// Leave takes an endpoint out of its sandbox, with the ports it published. The
// error matches spec.ErrNotFound for an unknown one.
func (e *Engine) Leave(ctx context.Context, networkID, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	ep, err := e.endpoint(networkID, id)
	if err != nil {
		return err
	}
	left := *ep
	left.Sandbox = ""
	if len(e.besides(ep.ID, ep)) > 0 {
		err = e.applyContainer(ctx, ep, &left)
	}
	if err == nil {
		e.enter(ep, "")
		if ep.Joined {
			e.tellEndpoint("left", ep)
		}
		ep.Joined, ep.announced = false, false
		e.awaitJoined(ep)
		err = e.setPorts(ctx, ep, nil, nil)
	}
	if err != nil {
		return fmt.Errorf("network %s: endpoint %s: leave: %w", spec.ShortID(networkID), spec.ShortID(id), err)
	}
	return nil
}

// hereMark is a setting of a container's link that the kernel makes anew with every move
// to another namespace, and that nobody heeds while the link is in the host's. So a link
// that has it has not left since Join, and is not one that has come back from a container
// that ended: the daemon may have been killed before the container engine had its answer.
func hereMark(id string) setting {
	return setting{"net/ipv6/conf/" + spec.SandboxName(id) + "/addr_gen_mode", "1"}
}

func (e *Engine) markHere(ctx context.Context, id string) error {
	mark := hereMark(id)
	if err := e.Sysctls.Set(ctx, mark.key, mark.value); !errors.Is(err, fs.ErrNotExist) { // it is in the container
		return err
	}
	return nil
}

func (e *Engine) isMarkedHere(ctx context.Context, id string) bool {
	mark := hereMark(id)
	value, err := e.Sysctls.Get(ctx, mark.key)
	return err == nil && value == mark.value
}
