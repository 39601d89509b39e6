//go:build netns

// Package crash_test kills the daemon, as it is shipped, at every step that it takes,
// and wears it out. `make crash` runs all of it, `make netns` a part.
package crash_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

func TestMain(m *testing.M) { testnet.Main(m) }

// programs builds what is shipped, once, and answers the folder. It is in memory, as all
// is that these tests write: a disk would only slow them down.
var programs = sync.OnceValues(func() (string, error) {
	dir := "/run/programs"
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "./cmd/v6net", "./cmd/netavark-v6net")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

func program(t testing.TB, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
