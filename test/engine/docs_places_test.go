//go:build engine

package engine_test

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/testengine"
)

// module is the folder that the documentation's commands are run in.
const module = "../.."

// place is where commands of the documentation are run, each in a lab of its own:
// eth0 is the link to a router, 2001:db8:1::/64 is on it, and nothing else is routed
// to the host unless the page says so.
type place string

const (
	dockerAlone place = "Docker"                  // without the plugin
	docker      place = "Docker with the plugin"  // named v6net
	podman      place = "Podman with the service" // the daemon and netavark's plugin
	machine     place = "machine"                 // with systemd and without v6net, another one for each page
)

var places = []place{dockerAlone, docker, podman, machine}

// machines is the engine whose files are the machine's own, with all programs that pages
// name.
const machines = "20.10"

// Pages name images of a registry; here they are all the one image of the tests.
var images = []string{"nginx", "nginx:alpine", "redis:alpine", "alpine"}

// standIns are what is not done once more, or is called otherwise here.
var standIns = []string{
	"make build\n", "test -x bin/v6net -a -x bin/netavark-v6net\n",
	"make plugin\n", "test -f build/plugin/config.json\n",
	"make packages\n", "ls build/packages/*.deb\n",
	"docker compose ", "docker-compose ",
	// One with the same contents is none: Docker has them already.
	"docker plugin create registry.example:5000/v6net:newer build/plugin\n",
	"cp -r build/plugin /tmp/newer; echo newer >/tmp/newer/rootfs/etc/newer; sed -i '0,/\"description\": \"/s//&newer /' /tmp/newer/config.json; docker plugin create registry.example:5000/v6net:newer /tmp/newer; rm -r /tmp/newer\n",
	// This engine's --exec-root is not /var/run/docker; docs/install.md says what to do then.
	"docker plugin enable v6net\n", "docker plugin set v6net sandboxes.source=$EXEC_ROOT; docker plugin enable v6net\n",
}

// stage is a place that is there.
type stage struct {
	*lab
	// run runs commands, and clear removes what a page has made.
	run   func(ctx context.Context, script string) (string, error)
	clear func(t *testing.T)
}

func (s stage) must(t *testing.T, script string) string {
	t.Helper()
	out, err := s.run(t.Context(), script)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// runDocs runs, page by page, what the documentation has for one place.
func runDocs(t *testing.T, where place, plan []step) {
	plan = slices.DeleteFunc(slices.Clone(plan), func(s step) bool { return s.in != where })
	if where == podman {
		onPodman(t, func(t *testing.T, l *lab, _ *podmanDaemon) {
			for _, image := range images {
				l.docker(t, "tag", l.image, "docker.io/library/"+image)
			}
			runSteps(t, l, plan, l.podmanStage)
		})
		return
	}
	l := newLab(t)
	if where == machine {
		runSteps(t, l, plan, l.machineStage)
		return
	}
	l.startEngine(t, testengine.Options{Release: machines})
	for _, image := range images {
		l.docker(t, "tag", l.image, image)
	}
	if where == docker {
		l.installPlugin(t)
	}
	runSteps(t, l, plan, func(t *testing.T) stage { return l.dockerStage(t, where) })
}

// runSteps runs steps in one lab after each other. Each has to leave the host as it was.
func runSteps(t *testing.T, l *lab, plan []step, open func(t *testing.T) stage) {
	for _, s := range plan {
		for _, blocks := range apart(s.blocks) {
			var before []string
			t.Run(strings.ReplaceAll(blocks[0].String(), "/", "_"), func(t *testing.T) {
				before = hostState(t, l.host)
				runBlocks(t, open(t), s.doc, blocks)
			})
			if before != nil { // not if -run has left it out
				mustEqual(t, s.page, before, hostState(t, l.host))
			}
		}
	}
}

// apart are the blocks that are run together, those after them without what they have
// made.
func apart(blocks []block) (groups [][]block) {
	for _, b := range blocks {
		if b.fresh || len(groups) == 0 {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], b)
	}
	return groups
}

func runBlocks(t *testing.T, s stage, page doc, blocks []block) {
	if s.clear != nil {
		t.Cleanup(func() { s.clear(t) })
	}
	if page.given != nil {
		page.given(t, s)
	}
	for _, b := range blocks {
		script := strings.NewReplacer(standIns...).Replace(b.Text)
		if b.serves != "" {
			script = served(script, b.serves)
		}
		if b.lasts {
			script = regexp.MustCompile("(?m)^").ReplaceAllString(strings.TrimSpace(script), "timeout --signal=INT --preserve-status 3 ")
		}
		if strings.HasPrefix(b.Page, "examples/") { // whose commands are for its folder
			script = "cd " + filepath.Dir(b.Page) + "\n" + script
		}
		out, err := s.run(t.Context(), script)
		t.Logf("%s\n%s\n%s", b, b.Text, out)
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if b.then != nil {
			b.then(t, s)
		}
	}
	if page.then != nil {
		page.then(t, s)
	}
}

// served runs each line of a script until it has said something, and ends it as a
// service manager does, which it has to take well.
func served(script, said string) string {
	var b strings.Builder
	for line := range strings.Lines(script) {
		fmt.Fprintf(&b, `
			exec {out}< <(exec 2>&1; %[1]s)
			pid=$!
			while read -r -t 20 -u $out line; do echo "$line"; [[ $line != *%[2]q* ]] || break; done
			[[ $line == *%[2]q* ]]
			pkill -TERM -P $pid || kill $pid
			wait $pid
			exec {out}<&-
		`, strings.TrimSpace(line), said)
	}
	return b.String()
}

// dockerStage is Docker; dockerAlone has no plugin when a page begins.
func (l *lab) dockerStage(t *testing.T, where place) stage {
	run := func(ctx context.Context, script string) (string, error) {
		out, err := l.onEngine(ctx, t, "env", "-i", "-C", l.module(t), "HOME=/root", "PATH="+l.module(t)+"/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"DOCKER_HOST="+l.engine.Client().DaemonHost(), "EXEC_ROOT="+filepath.Join(l.engine.StateDir(), "exec"),
			"bash", "-euo", "pipefail", "-c", script).CombinedOutput()
		return string(out), err
	}
	return stage{l, run, func(t *testing.T) {
		script := "docker ps -aq | xargs -r docker rm -f; docker network ls -q --filter type=custom | xargs -r docker network rm\n"
		if where == dockerAlone {
			script += "docker plugin ls -q | xargs -r docker plugin rm -f"
		}
		if out, err := run(context.Background(), script); err != nil {
			t.Errorf("clear: %v\n%s", err, out)
		}
	}}
}

func (l *lab) podmanStage(t *testing.T) stage {
	run := func(ctx context.Context, script string) (string, error) {
		return l.podman.Run(ctx, l.module(t), "bash", "-euo", "pipefail", "-c", "PATH=$PWD/bin:$PATH\n"+script)
	}
	return stage{l, run, func(t *testing.T) {
		if out, err := run(context.Background(), "podman rm -fa -t 0; podman network prune -f"); err != nil {
			t.Errorf("clear: %v\n%s", err, out)
		}
		eventually(t, "removal of all networks", func() bool { // Podman does not tell
			out, err := run(context.Background(), "v6net status")
			return err == nil && !strings.Contains(out, "NETWORK")
		})
	}}
}

func (l *lab) machineStage(t *testing.T) stage {
	m := testengine.StartSystemd(t, l.host)
	return stage{l, func(ctx context.Context, script string) (string, error) {
		return m.Run(ctx, "bash", "-euo", "pipefail", "-c", script)
	}, func(t *testing.T) {
		if _, err := m.Run(context.Background(), "sh", "-c", "systemctl stop firewalld.service; nft flush ruleset"); err != nil {
			t.Error(err)
		}
	}}
}

// module is the folder of the module by its path.
func (l *lab) module(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(module)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
