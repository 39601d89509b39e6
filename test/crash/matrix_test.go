//go:build netns

package crash_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/store"
)

// reference is what a life without crashes looks like.
type reference struct {
	scene  scene
	worlds []world // after the operations; the first one before them all
	points [][]string
	loose  []bool // whether there are leases that a start takes back

	hits, reached int // points that were tried, and those at which the daemon was killed in fact
}

// record lives a scene without a crash, and once more with restarts, which are to change nothing.
func record(t *testing.T, s scene) *reference {
	r := &reference{scene: s, loose: make([]bool, len(s.operations)+1)}
	m := newMachine(t)
	s.prepare(m)
	m.args = s.args
	m.start(0)
	r.worlds = append(r.worlds, m.settled())
	for _, op := range s.operations {
		if op.name == restart {
			m.kill()
			m.start(0)
		} else {
			m.daemon.Count(0)
			if err := op.do(m); err != nil {
				t.Fatalf("%s: %v", op.name, err)
			}
		}
		points, _ := m.daemon.Points()
		for i, p := range points {
			points[i] = m.own.Replace(p)
		}
		r.points, r.worlds = append(r.points, points), append(r.worlds, m.settled())
	}
	if first, last := r.worlds[0], r.worlds[len(r.worlds)-1]; !first.equal(last) || first.pools != last.pools {
		t.Errorf("in the end the machine is not as it was:\n%s%s", difference(first, last), last.pools)
	}
	for i, op := range s.operations {
		if op.name != restart {
			if err := op.do(m); err != nil {
				t.Fatalf("%s: %v", op.name, err)
			}
		}
		m.kill()
		m.start(0)
		if _, err := m.await("restarted after "+op.name, r.worlds[i+1]); err != nil {
			t.Error(err)
		}
		if w, err := m.look(); err == nil {
			r.loose[i+1] = w.pools != r.worlds[i+1].pools
		}
	}
	for i, op := range s.operations {
		t.Logf("crash matrix: %s (%s): %d points", op.name, s.name, len(r.points[i]))
	}
	m.kill()
	return r
}

// settled is the world when it does not change any more.
func (m *machine) settled() world {
	m.t.Helper()
	var before world
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		w, err := m.look()
		if err != nil {
			m.t.Fatal(err)
		}
		if w.equal(before) {
			return w
		}
		if before = w; time.Now().After(deadline) {
			m.t.Fatal("the world does not come to rest")
		}
	}
}

// point is one of a matrix.
type point struct {
	operation int
	kill      int // before which change
	undo      bool
	again     int // how often it has been missed
}

// nearer is a point in place of one that an operation of so many changes has missed: what
// the daemon does beside a call is more at times, and was so in the recording.
func (p point) nearer(made int) (point, bool) {
	p.kill = (p.kill-1)%max(made, 1) + 1
	p.again++
	return p, made > 0 && p.again < 5
}

// index is the place of an operation's world.
func (r *reference) index(name string) int {
	return slices.IndexFunc(r.scene.operations, func(o operation) bool { return o.name == name }) + 1
}

// isBetween reports whether the journal says what it never says between two operations: a
// call of Podman's makes an endpoint, has it join, and publishes its ports, and a container
// engine that has had no answer to Join or Leave has not moved the link yet.
func (r *reference) isBetween(m *machine) bool {
	status, err := m.status()
	if err != nil {
		return false
	}
	journal := m.text(journalOf(status))
	for _, n := range status.Networks {
		for _, ep := range n.Endpoints {
			if ep.Joined == m.isHere(ep.ID) {
				return true
			}
		}
	}
	return !slices.ContainsFunc(r.worlds, func(w world) bool { return w.journal == journal })
}

// hit kills a daemon at a point, the world being that before its operation, and leaves
// it at that after it. Where the point was not reached it says how many changes were made.
func (r *reference) hit(m *machine, p point) (made int, err error) {
	op := r.scene.operations[p.operation]
	after := r.worlds[p.operation+1]
	restarted := func() error {
		m.kill()
		m.start(0)
		if !r.isBetween(m) {
			_, err := m.await("restarted", r.worlds...)
			return err
		}
		var err error
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			if err = m.agrees(); err == nil || time.Now().After(deadline) {
				return err
			}
		}
	}
	var errs []error
	if op.name == restart {
		m.kill()
		if m.start(p.kill) {
			made = m.changes()
			m.kill()
		} else {
			r.reached++
		}
		errs = append(errs, restarted())
	} else {
		reached := r.reached
		m.cut = func() bool {
			r.reached++
			errs = append(errs, restarted())
			return !p.undo || op.undo == nil
		}
		m.daemon.Count(p.kill)
		err := op.do(m)
		if !m.runs() { // after the last call
			r.reached++
			errs = append(errs, restarted())
		} else if reached == r.reached {
			made = m.changes()
		}
		m.daemon.Count(0)
		m.cut = nil
		switch {
		case errors.Is(err, errGivenUp):
			if err := op.undo(m); err != nil {
				errs = append(errs, fmt.Errorf("undo: %w", err))
			}
			back := r.index(op.back)
			if _, err := m.await("undone", r.worlds[back]); err != nil {
				return made, errors.Join(append(errs, err)...)
			}
			for _, again := range r.scene.operations[back : p.operation+1] {
				if again.name == restart {
					continue
				}
				if err := again.do(m); err != nil {
					errs = append(errs, fmt.Errorf("%s again: %w", again.name, err))
				}
			}
		case err != nil:
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 && errors.Join(errs...) != nil {
		return made, errors.Join(errs...)
	}
	if _, err := m.await("completed", after); err != nil {
		return made, err
	}
	w, err := m.look()
	if err == nil && !r.loose[p.operation+1] && !r.scene.loose && w.pools != after.pools {
		err = fmt.Errorf("pools:\n%swant:\n%s", w.pools, after.pools)
	}
	return made, err
}

// changes are those of the daemon since it counts.
func (m *machine) changes() int {
	points, _ := m.daemon.Points()
	return len(points)
}

// matrix kills the daemon at those points of a scene that chosen says.
func matrix(t *testing.T, s scene, choose func(all []point) []point) {
	r := record(t, s)
	if t.Failed() {
		return
	}
	var all []point
	for i, points := range r.points {
		for n := range points {
			if !s.operations[i].chooses {
				all = append(all, point{operation: i, kill: n + 1})
			}
			if s.operations[i].undo != nil {
				all = append(all, point{operation: i, kill: n + 1, undo: true})
			}
		}
	}
	if len(all) < 100 {
		t.Fatalf("the daemon has made %d changes: they are not counted", len(all))
	}
	chosen := choose(all)
	t.Logf("crash matrix: %s: %d points of %d", s.name, len(chosen), len(all))
	// Each life meets one point of each operation.
	var lives []map[int]point
	plan := func(p point, from int) {
		for _, life := range lives[from:] {
			if _, taken := life[p.operation]; !taken {
				life[p.operation] = p
				return
			}
		}
		lives = append(lives, map[int]point{p.operation: p})
	}
	for _, p := range chosen {
		plan(p, 0)
	}
	r.hits = len(chosen)
	var m *machine
	fails := 0
	for life := 0; life < len(lives); life++ {
		if m == nil {
			m = newMachine(t)
			s.prepare(m)
			m.args = s.args
			m.start(0)
		}
		for i, op := range s.operations {
			p, hit := lives[life][i]
			if !hit {
				p = point{operation: i}
			}
			made, err := r.hit(m, p)
			if next, ok := p.nearer(made); hit && ok {
				plan(next, life+1)
			}
			if err != nil {
				what := "end"
				if p.kill > 0 {
					what = r.points[i][p.kill-1]
				}
				t.Errorf("%s: killed before change %d (%s) of %s, %s\nonce more: V6NET_CRASH='%s' make crash\n%v",
					s.name, p.kill, what, op.name, map[bool]string{true: "and given up", false: "and tried again"}[p.undo], r.word(p), err)
				fails++
				m.kill()
				m = nil
				break
			}
		}
		if m != nil {
			if err := m.empty(); err != nil {
				t.Errorf("%s, life %d: %v", s.name, life, err)
				m = nil
			}
		}
		if fails > 5 {
			t.Fatal("enough")
		}
	}
	t.Logf("crash matrix: %s: the daemon was killed at %d of %d", s.name, r.reached, r.hits)
	if r.reached < r.hits*9/10 {
		t.Errorf("the daemon was killed at %d points of %d", r.reached, r.hits)
	}
}

// empty reads the journal in which nothing is left, with no daemon in between.
func (m *machine) empty() error {
	m.kill()
	journal, err := store.Open(m.journal())
	if err != nil {
		return err
	}
	state, err := journal.Load()
	if err := errors.Join(err, journal.Close()); err != nil {
		return err
	}
	if n := len(state.Networks) + len(state.Endpoints) + len(state.Pools) + len(state.Leases) + len(state.Sysctls) + len(state.Advertised); n > 0 {
		return fmt.Errorf("the journal has %d records left: %+v", n, state)
	}
	m.start(0)
	return nil
}

// word names a point: "bridge/join/17/undo".
func (r *reference) word(p point) string {
	word := fmt.Sprintf("%s/%s/%d", r.scene.name, r.scene.operations[p.operation].name, p.kill)
	if p.undo {
		word += "/undo"
	}
	return word
}

// share is one point of so many: of `make crash` all. The same ones each time, until the
// whole matrix has passed once; another V6NET_SEED chooses others.
func share(t *testing.T, all []point) []point {
	every, err := strconv.Atoi(cmp.Or(os.Getenv("V6NET_CRASH_EVERY"), "60"))
	if err != nil || every < 1 {
		t.Fatalf("V6NET_CRASH_EVERY=%s: one point of how many?", os.Getenv("V6NET_CRASH_EVERY"))
	}
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("V6NET_SEED"), "20784"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if every > 1 {
		t.Logf("one point of %d: V6NET_SEED=%d V6NET_CRASH_EVERY=%d make crash", every, seed, every)
	}
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:(len(all)+every-1)/every]
}

func scenes() []scene {
	bridge := &inDocker{subnet4: "10.80.0.0/24", subnet6: "2001:db8:a::/64", want4: "10.80.0.7", want6: "2001:db8:a::7", hostPort: 8080,
		options: map[string]any{"ndproxy": "on", "parent": "eth0", "ra": "on"}}
	macvlan := &inDocker{subnet6: "2001:db8:c::/64", router: "2001:db8:c::1", want6: "2001:db8:c::7", hostPort: 80,
		options: map[string]any{"mode": "macvlan", "parent": "eth0", "host_access": "on"}}
	old := (&inDocker{subnet4: "10.82.0.0/24", subnet6: "2001:db8:d::/64"}).scene("ip6tables")
	old.args = []string{"--firewall", "ip6tables"}
	old.operations = slices.DeleteFunc(old.operations, func(o operation) bool {
		return !slices.Contains([]string{"request pools", "create network", "delete network"}, o.name)
	})
	onParent := macvlan.scene("macvlan")
	onParent.loose = true
	return []scene{bridge.scene("bridge"), onParent, new(inPodman).scene("podman"), inCloud(), old}
}

// TestCrashMatrix kills the daemon before every change that it makes. V6NET_CRASH is one
// point alone.
func TestCrashMatrix(t *testing.T) {
	only := strings.Split(os.Getenv("V6NET_CRASH"), "/")
	for _, s := range scenes() {
		if only[0] != "" && only[0] != s.name {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			matrix(t, s, func(all []point) []point {
				if len(only) > 2 {
					n, err := strconv.Atoi(only[2])
					if err != nil {
						t.Fatal(err)
					}
					return slices.DeleteFunc(slices.Clone(all), func(p point) bool {
						return s.operations[p.operation].name != only[1] || p.kill != n || p.undo != (len(only) > 3)
					})
				}
				return share(t, all)
			})
		})
	}
}
