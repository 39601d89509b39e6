//go:build netns

package crash_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/testcrash"
	"github.com/v6net/v6net/internal/testnet"
)

// killed runs Podman's plugin, which is killed before the kill'th change that it makes itself,
// in the container's namespace; 0: it is not. It answers how many it has made. The daemon lives.
func (p *inPodman) killed(m *machine, kill int, input any, args ...string) (made int, killed bool, err error) {
	file := func(name string, text []byte) (*os.File, error) {
		path := filepath.Join(m.dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, err
		}
		return os.OpenFile(path, os.O_RDWR, 0)
	}
	text, err := json.Marshal(input)
	if err != nil {
		return 0, false, err
	}
	in, err := file("in", text)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = in.Close() }()
	out, err := file("out", nil)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = out.Close() }()
	cmd := m.host.Command(context.Background(), append([]string{program(m.t, "netavark-v6net")}, args...)...)
	cmd.Env = append(os.Environ(), "V6NET_CONTROL_SOCKET="+m.controlSocket())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	plugin, err := testcrash.Start(cmd, out.Name(), kill)
	if err != nil {
		return 0, false, err
	}
	<-plugin.Ended()
	points, killed := plugin.Points()
	if !killed {
		if said, _ := os.ReadFile(out.Name()); strings.Contains(string(said), `"error"`) {
			return len(points), false, fmt.Errorf("netavark-v6net %s: %s", args[0], said)
		}
	}
	return len(points), killed, nil
}

// Podman's plugin is killed before every change that it makes: while it furnishes a container's
// namespace, and while it takes a container away. What is left is mended by the next call about
// the container, whichever that is; and by the daemon where none comes any more.
func TestPodmansPluginIsKilled(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.uncounted = true
	m.start(0)
	p := &inPodman{}
	if err := p.create(m); err != nil {
		t.Fatal(err)
	}
	gone := m.settled()
	sandbox := m.container.Path()
	changes, _, err := p.killed(m, 0, p.call(), "setup", sandbox)
	if err != nil || changes < 5 {
		t.Fatalf("setup makes %d changes itself, %v", changes, err)
	}
	there := m.settled()
	if err := p.teardown(m); err != nil {
		t.Fatal(err)
	}
	is := func(what string, want world) {
		t.Helper()
		if _, err := m.await(what, want); err != nil {
			t.Fatal(err)
		}
		if w, err := m.look(); err != nil || w.pools != want.pools {
			t.Fatalf("%s: pools %s, want %s, %v", what, w.pools, want.pools, err)
		}
	}
	is("without a crash", gone)
	t.Logf("setup makes %d changes in the container's namespace", changes)
	hit := func(kill int) {
		t.Helper()
		if made, killed, err := p.killed(m, kill, p.call(), "setup", sandbox); !killed {
			t.Fatalf("setup was not killed before change %d: it has made %d, %v", kill, made, err)
		}
	}
	for kill := 1; kill <= changes; kill++ {
		hit(kill)
		if err := p.setup(m); err != nil {
			t.Errorf("setup again after it was killed before change %d: %v", kill, err)
		}
		is(fmt.Sprintf("setup again after it was killed before change %d", kill), there)
		if err := p.teardown(m); err != nil {
			t.Fatal(err)
		}
		is("taken down", gone)
		hit(kill)
		if err := p.teardown(m); err != nil {
			t.Errorf("teardown after a setup that was killed before change %d: %v", kill, err)
		}
		is(fmt.Sprintf("teardown after a setup that was killed before change %d", kill), gone)
	}

	// Nobody calls any more: Podman takes the namespace away, and its user the container.
	t.Run("containers", func(t *testing.T) { // their namespaces go when it ends
		for kill := 1; kill <= changes; kill++ {
			container := testnet.New(t, "lost")
			input := p.callOf(fmt.Sprintf("%064x", kill), fmt.Sprintf("2001:db8:b::%x", 0x100+kill), fmt.Sprintf("10.81.0.%d", 100+kill), 8080+kill)
			if _, killed, err := p.killed(m, kill, input, "setup", container.Path()); !killed {
				t.Fatalf("setup was not killed before change %d: %v", kill, err)
			}
		}
	})
	status, err := m.status()
	if err != nil || len(status.Networks) != 1 || len(status.Networks[0].Endpoints) != changes {
		t.Fatalf("there are not %d endpoints to be forgotten: %+v, %v", changes, status.Networks, err)
	}
	is("containers about which nobody calls any more", gone)

	// A teardown changes nothing itself. So it is killed at moments of a call to the daemon.
	for _, after := range []time.Duration{0, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond} {
		if err := p.setup(m); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), after)
		text, err := json.Marshal(p.call())
		if err != nil {
			t.Fatal(err)
		}
		cmd := m.host.Command(ctx, program(t, "netavark-v6net"), "teardown", sandbox)
		cmd.Env = append(os.Environ(), "V6NET_CONTROL_SOCKET="+m.controlSocket())
		cmd.Stdin = strings.NewReader(string(text))
		if err := cmd.Run(); err != nil && ctx.Err() == nil {
			t.Errorf("teardown: %v", err)
		}
		cancel()
		if err := p.teardown(m); err != nil {
			t.Errorf("teardown again after %v: %v", after, err)
		}
		is(fmt.Sprintf("teardown again after it was killed after %v", after), gone)
	}
	if err := p.remove(m); err != nil && !errors.Is(err, spec.ErrNotFound) {
		t.Fatal(err)
	}
}
