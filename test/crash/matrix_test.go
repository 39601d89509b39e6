//go:build netns

package crash_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
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

	hits    int              // points that were tried
	reached int              // those at which the daemon was killed in fact
	missed  map[point]missed // those at which it was not
}

// record lives a scene without a crash, and once more with restarts, which are to change nothing.
func record(t *testing.T, s scene) *reference {
	r := &reference{scene: s, loose: make([]bool, len(s.operations)+1), missed: map[point]missed{}}
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
			m.count(0)
			if err := op.do(m); err != nil {
				t.Fatalf("%s: %v", op.name, err)
			}
		}
		points, _ := m.count(0)
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
		if n := len(r.points[i]); n > mostChanges {
			t.Errorf("%s makes %d changes, more than %d; most of them are %s", op.name, n, mostChanges, most(r.points[i]))
		}
	}
	m.kill()
	return r
}

// mostChanges is more than any operation makes that does not try something over and over.
const mostChanges = 200

// most are the commonest of changes.
func most(changes []string) string {
	count := map[string]int{}
	for _, c := range changes {
		count[c]++
	}
	common := slices.SortedFunc(maps.Keys(count), func(a, b string) int { return cmp.Compare(count[b], count[a]) })
	var words []string
	for _, c := range common[:min(len(common), 5)] {
		words = append(words, fmt.Sprintf("%d of %q", count[c], c))
	}
	return strings.Join(words, ", ")
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
		if w.equal(before) && !w.loading {
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
}

// tries is how often a point is tried: what the daemon does beside a call is more at times,
// and was so in the recording.
const tries = 5

// missed is a point that an operation of fewer changes has not come to.
type missed struct {
	tries int
	lacks []string // what was made in the recording, and was not in the try that came nearest
}

// miss notes that a point was not reached by an operation that has made those changes, and
// reports whether it is worth another try.
func (r *reference) miss(p point, made []string) bool {
	lacks := slices.Clone(r.points[p.operation])
	for _, change := range made {
		if i := slices.Index(lacks, change); i >= 0 {
			lacks = slices.Delete(lacks, i, i+1)
		}
	}
	before, again := r.missed[p]
	if again && len(before.lacks) < len(lacks) {
		lacks = before.lacks
	}
	r.missed[p] = missed{before.tries + 1, lacks}
	return before.tries+1 < tries
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
// it at that after it. Where the point was not reached it says what changes were made.
func (r *reference) hit(m *machine, p point) (reached bool, made []string, err error) {
	op := r.scene.operations[p.operation]
	after := r.worlds[p.operation+1]
	restarted := func() error {
		m.kill()
		m.start(r.again(p)) // which may serve by then
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
	cut := func() {
		reached = true
		errs = append(errs, restarted())
	}
	if op.name == restart {
		m.kill()
		m.start(p.kill) // it may be killed while it serves already
		made, reached = m.count(0)
		errs = append(errs, restarted())
	} else {
		m.cut = func() bool {
			cut()
			return !p.undo || op.undo == nil
		}
		m.daemon.Count(p.kill)
		err := op.do(m)
		m.cut = nil
		changes, killed := m.count(0)
		if killed { // after the last call
			cut()
		} else if !reached {
			made = changes
		}
		switch {
		case errors.Is(err, errGivenUp):
			if err := op.undo(m); err != nil {
				errs = append(errs, fmt.Errorf("undo: %w", err))
			}
			back := r.index(op.back)
			if _, err := m.await("undone", r.worlds[back]); err != nil {
				return reached, made, errors.Join(append(errs, err)...)
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
	if err := errors.Join(errs...); err != nil {
		return reached, made, err
	}
	if _, err := m.await("completed", after); err != nil {
		return reached, made, err
	}
	w, err := m.look()
	if err == nil && !r.loose[p.operation+1] && !r.scene.loose && w.pools != after.pools {
		err = fmt.Errorf("pools:\n%swant:\n%s", w.pools, after.pools)
	}
	return reached, made, err
}

// again is before which change a start is killed that recovers from a kill at p: another one for
// each point, and for a point always the same.
func (r *reference) again(p point) int {
	changes := len(r.points[r.index(restart)-1]) // those of a start, which every scene has
	return 1 + (p.operation+7*p.kill)%changes
}

// count has the daemon count anew, to be killed before a change or not, and answers which it
// has made since it did last, and whether it was killed.
func (m *machine) count(kill int) (made []string, killed bool) {
	made, killed = m.daemon.Count(kill)
	for i, change := range made {
		made[i] = m.own.Replace(change)
	}
	return made, killed
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
			reached, made, err := r.hit(m, p)
			switch {
			case reached:
				r.reached++
				delete(r.missed, p)
			case hit && r.miss(p, made):
				plan(p, life+1)
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
				for later := i + 1; later < len(s.operations); later++ { // the life's other points
					if p, has := lives[life][later]; has {
						plan(p, life+1)
					}
				}
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
	r.report(t)
}

// fewMissed is how many points of a scene may be missed: of what the daemon does beside its calls
// a recording may have had more than any other life.
const fewMissed = 3

// report says which points were not reached, and why not.
func (r *reference) report(t *testing.T) {
	t.Logf("crash matrix: %s: the daemon was killed at %d points of %d", r.scene.name, r.reached, r.hits)
	for p, m := range r.missed {
		t.Logf("crash matrix: %s was not reached in %d tries: the recording has %d changes that no life had: %s", r.word(p), m.tries, len(m.lacks), most(m.lacks))
		if len(m.lacks) == 0 {
			t.Errorf("%s was not reached, though all changes were made", r.word(p))
		}
	}
	if missed := r.hits - r.reached; missed != len(r.missed) || missed > fewMissed {
		t.Errorf("the daemon was killed at %d points of %d; %d were missed for the reasons above, and at most %d may be", r.reached, r.hits, len(r.missed), fewMissed)
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
	internal := &inDocker{subnet6: "2001:db8:d::/64", want6: "2001:db8:d::7", hostPort: 80, internal: true, options: map[string]any{"mode": "macvlan"}}
	old := &inDocker{subnet4: "10.82.0.0/24", subnet6: "2001:db8:e::/64", want4: "10.82.0.7", want6: "2001:db8:e::7", hostPort: 8080}
	translated := &inDocker{subnet6: "fd12:3456:789a::/64", want6: "fd12:3456:789a::7", hostPort: 80,
		options: map[string]any{"masquerade": "nptv6", "nptv6": "2001:db8:9::/64", "ndproxy": "on"}}
	logged := &inDocker{subnet4: "10.83.0.0/24", subnet6: "fd12:3456:789b::/64", want4: "10.83.0.7", want6: "fd12:3456:789b::7", hostPort: 8080,
		options: map[string]any{"log_denied": "on", "masquerade": "on"}}
	onLink := &inDocker{subnet6: "2001:db8:1:0:8000::/80", want6: "2001:db8:1:0:8000::7", hostPort: 80, options: map[string]any{"ndproxy": "prefix", "ra": "on"}}
	first := &inDocker{subnet4: "10.84.0.0/24", subnet6: "2001:db8:f::/64", want4: "10.84.0.7", want6: "2001:db8:f::7", hostPort: 8080, options: map[string]any{"ndproxy": "on"}}
	second := &inDocker{id: "b" + networkID[1:], endpoint: "b" + endpointID[1:], second: true, subnet6: "fd12:3456:789c::/64", want6: "fd12:3456:789c::7", hostPort: 8081}

	onParent := macvlan.scene("macvlan")
	onParent.loose = true
	byIptables := old.scene("ip6tables")
	byIptables.args = []string{"--firewall", "ip6tables"}
	itsNetwork := byIptables
	itsNetwork.name = "ip6tables-network"
	itsNetwork.operations = slices.DeleteFunc(slices.Clone(byIptables.operations), func(o operation) bool {
		return !slices.Contains([]string{"request pools", "create network", restart, "delete network"}, o.name)
	})
	rare := []scene{byIptables, internal.scene("internal"), translated.scene("nptv6"), logged.scene("log_denied"), onLink.scene("prefix")}
	for i := range rare {
		rare[i].rare = true
	}
	return append(rare, bridge.scene("bridge"), onParent, new(inPodman).scene("podman"), inCloud(), itsNetwork, onTwo("two", first, second))
}

// TestCrashMatrix kills the daemon before every change that it makes, and once more while it
// recovers. V6NET_CRASH is one point alone.
func TestCrashMatrix(t *testing.T) {
	only := strings.Split(os.Getenv("V6NET_CRASH"), "/")
	for _, s := range scenes() {
		if only[0] != "" && only[0] != s.name || s.rare && os.Getenv("V6NET_CRASH_EVERY") == "" {
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
