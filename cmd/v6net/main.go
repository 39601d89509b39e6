// Command v6net is the daemon that gives containers real IPv6, and the
// operator's view of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/willabides/kongplete"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/netavark"
)

// version is set by the linker (see the Makefile).
var version = "devel"

// cli is the command tree; its tags are the help text.
type cli struct {
	Daemon   daemonCommand   `cmd:"" help:"Run the daemon: serve Docker's plugin protocol and keep the kernel in step."`
	Status   statusCommand   `cmd:"" help:"Show networks, prefixes, endpoints and proxied addresses."`
	Doctor   doctorCommand   `cmd:"" help:"Say what on this host keeps containers from being reached, why, and how to mend it."`
	Watch    watchCommand    `cmd:"" help:"Show what happens, as it happens: solicitations, advertisements, leases, prefixes, containers, denied packets."`
	Capture  captureCommand  `cmd:"" help:"Capture packets of a container or a network, by name: to a file, a pipe, or printed."`
	Hosts    hostsCommand    `cmd:"" help:"Show which addresses containers have now, in the format of hosts(5)."`
	Forget   forgetCommand   `cmd:"" help:"Remove a network that Docker no longer knows, with all it has on this host, or a pool that nothing uses."`
	NDProxy  ndproxyCommand  `cmd:"" name:"ndproxy" help:"Answer neighbor solicitations for addresses behind this host, without containers."`
	RA       raCommand       `cmd:"" name:"ra" help:"Look at router advertisements."`
	Firewall firewallCommand `cmd:"" help:"Ask what the firewall does."`
	Version  versionCommand  `cmd:"" help:"Print the version."`

	VersionFlag kong.VersionFlag `name:"version" help:"Print the version."`

	Reference referenceCommand `cmd:"" hidden:"" help:"Print the reference that the documentation is made of."`
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run() error {
	_, err := fmt.Println(version)
	return err
}

// settings are how the command line is read.
func settings() []kong.Option {
	return []kong.Option{
		kong.Name("v6net"),
		kong.Description("Real IPv6 for containers."),
		kong.ShortUsageOnError(),
		kong.Exit(func(status int) {
			if status == kongUsage {
				status = exitUsage
			}
			os.Exit(status)
		}),
		kong.Vars{"version": version, "control_socket": control.SocketPath, "podman_folder": netavark.Folder},
	}
}

// asked is the command line: "help COMMAND" is "COMMAND --help".
func asked(args []string) []string {
	if len(args) > 0 && args[0] == "help" {
		return append(slices.Clone(args[1:]), "--help")
	}
	return args
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var c cli
	parser := kong.Must(&c, append(settings(), kong.BindTo(ctx, (*context.Context)(nil)))...)
	kongplete.Complete(parser) // for a shell that asks, and ends there
	command, err := parser.Parse(asked(os.Args[1:]))
	parser.FatalIfErrorf(err)
	if err := command.Run(); err != nil {
		if silent := exitCode(0); !errors.As(err, &silent) {
			fmt.Fprintln(os.Stderr, "v6net:", err)
		}
		stop()
		os.Exit(exitStatus(err))
	}
}
