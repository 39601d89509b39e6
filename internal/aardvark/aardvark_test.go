package aardvark_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/aardvark"
	"github.com/v6net/v6net/internal/netavark"
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// server has a program that notes how it is called, and ends.
func server(t *testing.T) (s aardvark.Server, called func() string) {
	t.Helper()
	dir := t.TempDir()
	note := filepath.Join(dir, "called")
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >>%s\n", note)
	if err := os.WriteFile(filepath.Join(dir, "aardvark-dns"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return aardvark.Server{Folder: filepath.Join(dir, "names"), Programs: []string{dir + "/away", dir}}, func() string {
		text, _ := os.ReadFile(note) // none: not called
		return string(text)
	}
}

// The files are what aardvark-dns reads: test/engine shows that it does.
func TestFiles(t *testing.T) {
	s, called := server(t)
	web := netavark.NamedNetwork{Name: "web", Servers: addrs("2001:db8::1", "10.0.0.1"), Forward: addrs("2001:db8::53")}
	inside := netavark.NamedNetwork{Name: "inside", Internal: true, Servers: addrs("fd00::1")}
	one := netavark.NamedContainer{ID: "c1", Names: []string{"one", "www"}, Addresses: addrs("2001:db8::2", "10.0.0.2")}
	two := netavark.NamedContainer{ID: "c2", Names: []string{"two"}, Addresses: addrs("2001:db8::3", "10.0.0.3")}
	moved := one
	moved.Addresses = addrs("2001:db8::9")
	add := func(n netavark.NamedNetwork, c netavark.NamedContainer) {
		t.Helper()
		if err := s.Add(t.Context(), n, c); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(n, c string) {
		t.Helper()
		if err := s.Remove(t.Context(), n, c); err != nil {
			t.Fatal(err)
		}
	}
	must := func(file, want string) {
		t.Helper()
		got, err := os.ReadFile(filepath.Join(s.Folder, file))
		if want == "" && err == nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", file, got, err, want)
		}
	}
	remove("web", "c1") // of nothing
	add(web, one)
	if want := "--config " + s.Folder + " --port 53 run\n"; called() != want {
		t.Errorf("the server is called with %q, want %q", called(), want)
	}
	add(web, two)
	add(inside, one)
	must("web", "2001:db8::1,10.0.0.1 2001:db8::53\nc1 10.0.0.2 2001:db8::2 one,www\nc2 10.0.0.3 2001:db8::3 two\n")
	must("inside%int", "fd00::1\nc1 10.0.0.2 2001:db8::2 one,www\n")
	add(web, moved)
	must("web", "2001:db8::1,10.0.0.1 2001:db8::53\nc2 10.0.0.3 2001:db8::3 two\nc1  2001:db8::9 one,www\n")
	remove("web", "c2")
	must("web", "2001:db8::1,10.0.0.1 2001:db8::53\nc1  2001:db8::9 one,www\n")
	remove("web", "c2") // twice
	remove("web", "c1")
	remove("inside", "c1")
	must("web", "")
	must("inside%int", "")
}

// A server that runs is told to read its files again, and no second one is started.
func TestReload(t *testing.T) {
	s, called := server(t)
	if err := os.Mkdir(s.Folder, 0o755); err != nil {
		t.Fatal(err)
	}
	// A program of that name that notes the signal.
	note := filepath.Join(t.TempDir(), "signalled")
	shell := filepath.Join(t.TempDir(), "aardvark-dns")
	path, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, shell); err != nil {
		t.Fatal(err)
	}
	// Of a signal that is ignored (by nohup, say) a shell notes nothing; one that this
	// process handles its children have anew.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	running := exec.Command(shell, "-c", "trap 'echo >"+note+"' HUP; echo $$ >"+s.Folder+"/aardvark.pid; while :; do sleep 0.05; done")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = running.Process.Kill(); _ = running.Wait() }()
	wait := func(what, path string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if text, err := os.ReadFile(path); err == nil && strings.HasSuffix(string(text), "\n") {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come about", what)
			}
		}
	}
	wait("the start", filepath.Join(s.Folder, "aardvark.pid"))
	if err := s.Add(t.Context(), netavark.NamedNetwork{Name: "web", Servers: addrs("fd00::1")}, netavark.NamedContainer{ID: "c1"}); err != nil {
		t.Fatal(err)
	}
	wait("the signal", note)
	if called() != "" {
		t.Errorf("another server is started: %s", called())
	}
}

func TestWithoutProgram(t *testing.T) {
	s := aardvark.Server{Folder: filepath.Join(t.TempDir(), "names"), Programs: []string{"/nowhere"}}
	err := s.Add(t.Context(), netavark.NamedNetwork{Name: "web", Servers: addrs("fd00::1")}, netavark.NamedContainer{ID: "c1"})
	if check := s.Check(); check == nil || err == nil || check.Error() != err.Error() {
		t.Errorf("Check = %v, Add = %v; want the same", check, err)
	}
	if err == nil || !strings.Contains(err.Error(), "option dns=on needs aardvark-dns, which is in none of /nowhere") {
		t.Errorf("without the program: %v", err)
	}
	if err := s.Add(t.Context(), netavark.NamedNetwork{Name: "web"}, netavark.NamedContainer{ID: "c1"}); err == nil || !strings.Contains(err.Error(), "no gateway") {
		t.Errorf("on a network without a gateway: %v", err)
	}
}

// A name that the server's files cannot hold is refused, and takes no other away.
func TestUnwritableNames(t *testing.T) {
	s, _ := server(t)
	web := netavark.NamedNetwork{Name: "web", Servers: addrs("fd00::1")}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), web, netavark.NamedContainer{ID: "c1", Names: []string{"one", "www"}, Addresses: addrs("fd00::2")}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(s.Folder, "web"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a b", "a,b", "a\nb", "a\tb"} {
		err := s.Add(t.Context(), web, netavark.NamedContainer{ID: "c2", Names: []string{"two", name}, Addresses: addrs("fd00::3")})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q is no name", name)) {
			t.Errorf("the alias %q: %v, want an error that names it", name, err)
		}
	}
	if after, err := os.ReadFile(filepath.Join(s.Folder, "web")); err != nil || string(after) != string(before) {
		t.Errorf("the file is %q (%v), was %q", after, err, before)
	}
}
