package netavark

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// FrontEnd is the name under which networks of this front end are journaled.
const FrontEnd = "netavark"

// apiVersion is that of the plugin protocol.
const apiVersion = "1.0.0"

const (
	// callTime bounds setup and teardown, during which netavark holds a lock of the
	// whole host's: no other container starts or ends meanwhile. A busy host takes its
	// time, and a container that does not start is worse than one that waits.
	callTime = 10 * time.Second
	// undoTime is for taking back what a setup did that failed.
	undoTime = time.Second
	// createTime bounds create, which holds nobody up. It is longer than the daemon
	// waits for a DHCPv6 server that the user wants, so that what the daemon has to say
	// of it is heard.
	createTime = 20 * time.Second

	// maxInput holds the ports of a container that publishes all of a protocol's.
	maxInput = 8 << 20
)

// Daemon is what the plugin has the daemon do.
type Daemon interface {
	MakeNetwork(context.Context, spec.NetworkRequest) (spec.Network, error)
	Attach(context.Context, spec.AttachRequest) (spec.Attached, error)
	// Detach's error matches spec.ErrNotFound for an unknown endpoint.
	Detach(ctx context.Context, networkID, endpointID string) error
}

// Link is what is done in the container's network namespace.
type Link struct {
	Name      string // on the host
	Alias     string
	Rename    string
	Addresses []netip.Prefix
	OnLink    []netip.Prefix
	Routes    []Route
}

// Route is a route of the container's by the link.
type Route struct {
	Destination netip.Prefix
	Gateway     netip.Addr // zero: all of the destination is on the link
	Metric      int
}

// Sandbox furnishes a container's network namespace.
type Sandbox interface {
	// Furnish moves the link there and makes it ready, and answers its MAC address.
	Furnish(ctx context.Context, path string, l Link) (mac string, err error)
}

// Names resolves the names of a network's containers in the containers.
type Names interface {
	// Check says why that cannot be had on this host.
	Check() error
	// Add makes names lead to addresses. Servers are where the network's containers
	// ask; forward are asked about other names, the host's own servers if there are none.
	Add(ctx context.Context, n NamedNetwork, c NamedContainer) error
	// Remove takes a container's names out; one that is not there is no error.
	Remove(ctx context.Context, network, container string) error
}

// NamedNetwork is a network whose containers have names.
type NamedNetwork struct {
	Name     string
	Internal bool // no name of the outside is looked up
	Servers  []netip.Addr
	Forward  []netip.Addr
}

// NamedContainer is a container with its names.
type NamedContainer struct {
	ID        string
	Names     []string
	Addresses []netip.Addr
}

// Plugin answers netavark's calls.
type Plugin struct {
	Version string
	// Daemon connects to the daemon. Its error says how to start one.
	Daemon  func() (Daemon, error)
	Sandbox Sandbox
	Names   Names
	// Rootless says that this is not the host's own root.
	Rootless bool
}

// errRootless says why, and what works.
var errRootless = errors.New("v6net serves rootful Podman only: its networks are links of the host, and a rootless container's network is cut off from those in a user namespace of its own; run it as root (sudo podman …), or keep Podman's default network, pasta, which gives a rootless container the host's own IPv6 address")

// Run answers one call: a sub-command with its arguments, and JSON. A failure is
// answered, too; the error is for the exit status.
func (p *Plugin) Run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	answer, err := p.run(ctx, args, stdin)
	if err != nil {
		answer = failure{err.Error()}
	}
	if answer == nil {
		return nil
	}
	out := json.NewEncoder(stdout)
	out.SetEscapeHTML(false)
	return errors.Join(err, out.Encode(answer))
}

func (p *Plugin) run(ctx context.Context, args []string, stdin io.Reader) (any, error) {
	var command, sandbox string
	switch {
	case len(args) == 1 && (args[0] == "create" || args[0] == "info"):
		command = args[0]
	case len(args) == 2 && (args[0] == "setup" || args[0] == "teardown"):
		command, sandbox = args[0], args[1]
	default:
		return nil, fmt.Errorf("this is Podman's plugin, not for people (usage: create | setup NETNS | teardown NETNS | info); see `v6net --help`")
	}
	if command == "info" {
		return info{Version: p.Version, APIVersion: apiVersion}, nil
	}
	if p.Rootless {
		return nil, errRootless
	}
	limit := callTime
	if command == "create" {
		limit = createTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer, err := p.answer(ctx, command, sandbox, stdin)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("given up after %v: %w", limit, err)
	}
	return answer, err
}

func (p *Plugin) answer(ctx context.Context, command, sandbox string, stdin io.Reader) (any, error) {
	switch command {
	case "create":
		var n network
		if err := decode(stdin, &n); err != nil {
			return nil, err
		}
		return p.create(ctx, n)
	case "setup":
		var c call
		if err := decode(stdin, &c); err != nil {
			return nil, err
		}
		return p.setup(ctx, c, sandbox)
	default:
		var c call
		if err := decode(stdin, &c); err != nil {
			return nil, err
		}
		return nil, p.teardown(ctx, c)
	}
}

func decode(stdin io.Reader, into any) error {
	text, err := io.ReadAll(io.LimitReader(stdin, maxInput+1))
	switch {
	case err != nil:
		return fmt.Errorf("read standard input: %w", err)
	case len(text) > maxInput:
		return fmt.Errorf("standard input is longer than %d bytes", maxInput)
	case len(bytes.TrimSpace(text)) == 0:
		return errors.New("nothing on standard input")
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("malformed input: %w", err)
	}
	return nil
}
