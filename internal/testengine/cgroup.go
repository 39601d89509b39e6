package testengine

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupPrefix starts the name of every cgroup made here.
const cgroupPrefix = "v6net-test-"

// cgroup is the parent of one engine's containers, in every hierarchy. While
// its process lives it holds a lock on the directory, so that the next run
// knows what a killed one left.
type cgroup struct {
	name string
	dirs []string
	lock *os.File
}

// makeCgroup removes what dead runs left and makes a new cgroup.
func makeCgroup() (*cgroup, error) {
	hierarchies, err := findHierarchies()
	if err != nil {
		return nil, err
	}
	if err := sweepCgroups(hierarchies); err != nil {
		return nil, err
	}
	first, err := os.MkdirTemp(hierarchies[0], cgroupPrefix)
	if err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	g := &cgroup{name: filepath.Base(first)}
	for _, h := range hierarchies {
		dir := filepath.Join(h, g.name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(fmt.Errorf("make cgroup: %w", err), g.remove())
		}
		g.dirs = append(g.dirs, dir)
	}
	if g.lock, err = lockDir(first); err != nil {
		return nil, errors.Join(err, g.remove())
	}
	return g, nil
}

// findHierarchies lists where cgroups are mounted: once on a machine with
// cgroup v2, once a controller with v1.
func findHierarchies() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	defer func() { _ = f.Close() }()
	var found []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// "ID PARENT DEV ROOT MOUNTPOINT OPTIONS… - TYPE SOURCE SUPER"
		front, back, _ := strings.Cut(lines.Text(), " - ")
		if strings.HasPrefix(back, "cgroup ") || strings.HasPrefix(back, "cgroup2 ") {
			found = append(found, strings.Fields(front)[4])
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted")
	}
	return found, nil
}

// sweepCgroups removes the cgroups whose process is dead.
func sweepCgroups(hierarchies []string) error {
	dirs, err := filepath.Glob(filepath.Join(hierarchies[0], cgroupPrefix+"*"))
	if err != nil {
		return fmt.Errorf("list cgroups: %w", err)
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err != nil || time.Since(info.ModTime()) < time.Minute {
			continue // gone, or its maker may not have locked it yet
		}
		lock, err := lockDir(dir)
		if err != nil {
			continue // in use
		}
		stale := &cgroup{name: filepath.Base(dir), lock: lock}
		for _, h := range hierarchies {
			stale.dirs = append(stale.dirs, filepath.Join(h, stale.name))
		}
		if err := errors.Join(stale.removeRemembered(hierarchies), stale.remove()); err != nil {
			return err
		}
	}
	return nil
}

// remember notes the ID of a plugin. An engine has the cgroups of its plugins
// not below its own but below that of process 1, under their IDs.
func (g *cgroup) remember(id string) error {
	if err := os.MkdirAll(filepath.Join(g.dirs[0], id), 0o755); err != nil {
		return fmt.Errorf("remember cgroup of plugin: %w", err)
	}
	return nil
}

// removeRemembered removes the cgroups of the plugins of a dead run.
func (g *cgroup) removeRemembered(hierarchies []string) error {
	ids, err := os.ReadDir(g.dirs[0])
	if err != nil {
		return fmt.Errorf("list remembered plugins: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("find own cgroups: %w", err)
	}
	for _, line := range strings.Fields(string(own)) { // "ID:CONTROLLERS:PATH"
		for _, h := range hierarchies {
			for _, id := range ids {
				// Most of these never were: a path belongs to one hierarchy.
				_ = unix.Rmdir(filepath.Join(h, line[strings.LastIndex(line, ":")+1:], id.Name()))
			}
		}
	}
	return nil
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("lock cgroup: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock cgroup %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// remove kills what still runs in the cgroup and removes it everywhere.
func (g *cgroup) remove() error {
	var errs []error
	for _, dir := range g.dirs {
		errs = append(errs, removeTree(dir))
	}
	if g.lock != nil {
		errs = append(errs, g.lock.Close())
	}
	return errors.Join(errs...)
}

// removeTree removes a cgroup from its leaves up. The kernel refuses while a
// killed process has not quite ended.
func removeTree(top string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		var dirs []string
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // containers' cgroups may go at any moment
		})
		for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
			if err = killAll(dirs[i]); err == nil {
				err = unix.Rmdir(dirs[i])
			}
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func killAll(dir string) error {
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return fmt.Errorf("list processes of cgroup: %w", err)
	}
	for _, field := range strings.Fields(string(procs)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return fmt.Errorf("process %q of cgroup %s: %w", field, dir, err)
		}
		// 0 is a process of another PID namespace, which is not ours to kill.
		if pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		}
	}
	return nil
}
