package testengine

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
)

// containerdUnused are plugins of containerd that Docker has no use for. Some
// look for file systems and load kernel modules when they start.
var containerdUnused = []string{
	"io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri",
	"io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs",
	"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.zfs",
}

// containerdSocket is where the engine's containerd answers.
func (l layout) containerdSocket() string { return l.file("containerd.sock") }

// configureContainerd writes the configuration that startContainerd uses.
func (l layout) configureContainerd() error {
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"%s\"]\n[grpc]\naddress = %q\n",
		l.file("containerd"), l.file("containerd-state"), strings.Join(containerdUnused, `", "`), l.containerdSocket())
	if err := os.WriteFile(l.file("containerd.toml"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("configure containerd: %w", err)
	}
	return nil
}

// startContainerd starts the engine's containerd and waits until it answers, as
// the service manager of a distribution does. One that dockerd starts itself has
// 15 seconds for that, which is little on a busy, emulated machine.
func (e *Engine) startContainerd(ctx context.Context) error {
	// Not ctx, as in launch.
	cmd := e.command(context.Background(), "/", "containerd", "--config="+e.layout.file("containerd.toml"))
	process, err := startProcess("containerd", cmd, e.layout.file("containerd.log"))
	if err != nil {
		return err
	}
	e.containerd = process
	return process.await(ctx, func(ctx context.Context) error {
		connection, err := (&net.Dialer{}).DialContext(ctx, "unix", e.layout.containerdSocket())
		if err != nil {
			return err
		}
		return connection.Close()
	})
}
