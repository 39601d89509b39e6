//go:build netns

package testcrash_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testcrash"
	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }

// The kernel starts a write over while others change the network; it is one change.
func TestSettingIsCountedOnce(t *testing.T) {
	busy := testnet.New(t, "busy")
	for i := range 4 {
		testnet.Running(t, "links that come and go", func(ctx context.Context) error {
			link := fmt.Sprintf("busy%d", i)
			changes := strings.Repeat("link add "+link+" up type veth peer name p"+link+"\nlink del "+link+"\n", 50)
			for ctx.Err() == nil {
				ip := busy.Command(ctx, "ip", "-batch", "-")
				ip.Stdin = strings.NewReader(changes)
				if out, err := ip.CombinedOutput(); err != nil && ctx.Err() == nil {
					return fmt.Errorf("ip: %w: %s", err, out)
				}
			}
			return nil
		})
	}
	const writes = 1000
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = said.Close() }()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", fmt.Sprintf("for i in $(seq %d); do echo $((i %% 2)) >/proc/sys/net/ipv6/conf/lo/forwarding; done", writes))
	cmd.Stdout, cmd.Stderr = said, said
	p, err := testcrash.Start(cmd, said.Name(), 0)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Ended()
	counted := 0
	points, _ := p.Points()
	for _, point := range points {
		if point == "write /proc/sys/net/ipv6/conf/lo/forwarding" {
			counted++
		}
	}
	if counted != writes {
		t.Errorf("of %d writes of a setting %d are counted", writes, counted)
	}
}
