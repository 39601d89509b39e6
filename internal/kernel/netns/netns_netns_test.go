//go:build netns

package netns_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/testnet"
)

// claimEnv makes the test binary hold a claim until its standard input ends.
const claimEnv = "V6NET_TEST_CLAIM"

func TestMain(m *testing.M) {
	if name := os.Getenv(claimEnv); name != "" {
		holdClaim(name)
		return
	}
	testnet.Main(m)
}

func holdClaim(name string) {
	if _, err := netns.Claim(name); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("claimed")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// here names the calling thread's network namespace.
func here(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDoEntersAndComesBack(t *testing.T) {
	other := testnet.New(t, "other")
	home := here(t)
	failure := errors.New("failure of f")
	var inside string
	err := netns.Do(other.Path(), func() error {
		inside = here(t)
		links, err := net.Interfaces()
		if err != nil || len(links) != 1 {
			t.Errorf("links inside: %v, %v; want lo alone", links, err)
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("Do returned %v, want the error of f", err)
	}
	if inside == home {
		t.Errorf("f ran in the caller's namespace %s", home)
	}
	if now := here(t); now != home {
		t.Errorf("the caller is in %s after Do, want %s", now, home)
	}
}

// No thread of the process may stay behind in the other namespace.
func TestDoLeavesNoThreadBehind(t *testing.T) {
	other := testnet.New(t, "other")
	home := here(t)
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			err := netns.Do(other.Path(), func() error {
				if i%8 == 0 {
					runtime.Goexit()
				}
				return nil
			})
			if left := err != nil; left != (i%8 == 0) {
				t.Errorf("Do number %d: %v", i, err)
			}
		})
	}
	group.Wait()
	threads, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads: %v, %v", threads, err)
	}
	for _, path := range threads {
		if ns, err := os.Readlink(path); err == nil && ns != home {
			t.Errorf("%s is %s, want %s", path, ns, home)
		}
	}
}

func TestDoOfVanishedNamespace(t *testing.T) {
	unmounted := filepath.Join(t.TempDir(), "sandbox")
	if err := os.WriteFile(unmounted, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"missing file":                   filepath.Join(t.TempDir(), "nothing"),
		"file left by an unmount":        unmounted,
		"namespace of another kind":      "/proc/self/ns/uts",
		"process that has ended already": "/proc/4194305/ns/net",
	} {
		t.Run(name, func(t *testing.T) {
			err := netns.Do(path, func() error { t.Error("f was called"); return nil })
			if !errors.Is(err, netns.ErrGone) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want ErrGone with the path", err)
			}
		})
	}
}

// Holders are told apart without a call at their socket, and in each namespace by itself.
func TestClaimant(t *testing.T) {
	look := func() string {
		t.Helper()
		who, err := netns.Claimant("v6net-test")
		if err != nil {
			t.Fatal(err)
		}
		return who
	}
	if who := look(); who != "" {
		t.Errorf("before anybody claims, %q does", who)
	}
	first, err := netns.Claim("v6net-test")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = netns.Claim("v6net-test") // whose call waits at the first one's socket, and is no claim
	one := look()
	if one == "" || look() != one {
		t.Errorf("the holder is %q, and then %q", one, look())
	}
	err = netns.Do(testnet.New(t, "other").Path(), func() error {
		who, err := netns.Claimant("v6net-test")
		if who != "" {
			t.Errorf("in another network namespace the holder is %q", who)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if err := first(); err != nil {
		t.Fatal(err)
	}
	if who := look(); who != "" {
		t.Errorf("released, %q holds it", who)
	}
	second, err := netns.Claim("v6net-test")
	if err != nil {
		t.Fatal(err)
	}
	if two := look(); two == "" || two == one {
		t.Errorf("the next holder is %q, as the first one", two)
	}
	if err := second(); err != nil {
		t.Error(err)
	}
}

func TestClaimIsExclusive(t *testing.T) {
	release, err := netns.Claim("v6net-test")
	if err != nil {
		t.Fatal(err)
	}
	_, err = netns.Claim("v6net-test")
	if !errors.Is(err, netns.ErrClaimed) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("second claim: %v, want ErrClaimed with process %d", err, os.Getpid())
	}
	other := testnet.New(t, "other")
	err = netns.Do(other.Path(), func() error {
		release, err := netns.Claim("v6net-test")
		if err == nil {
			err = release()
		}
		return err
	})
	if err != nil {
		t.Errorf("claim in another network namespace: %v, want success", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	release, err = netns.Claim("v6net-test")
	if err != nil {
		t.Fatalf("claim after release: %v", err)
	}
	_ = release()
}

// Any user may bind the claim's name. He is no daemon, and keeps none down, whether his
// socket answers or not; daemons exclude each other all the same, and when he has gone.
func TestClaimBesideAnIntruder(t *testing.T) {
	const user = 65534
	for name, backlog := range map[string]int{"that listens": 0, "that does not": -1} {
		t.Run(name, func(t *testing.T) {
			fd := socketOf(t, user, "@v6net-test")
			if backlog >= 0 {
				if err := unix.Listen(fd, backlog); err != nil {
					t.Fatal(err)
				}
				for err := error(nil); err == nil; { // nobody can connect to ask who he is
					_, err = connect(t, "@v6net-test")
				}
			}
			if who, err := netns.Claimant("v6net-test"); who != "" || err != nil {
				t.Errorf("the intruder is taken for a daemon: %q, %v", who, err)
			}
			release, err := netns.Claim("v6net-test")
			if err != nil {
				t.Fatal(err)
			}
			if users, err := netns.Intruders("v6net-test"); !slices.Equal(users, []uint32{user}) || err != nil {
				t.Errorf("intruders %v, %v; want %d", users, err, user)
			}
			if who, err := netns.Claimant("v6net-test"); who == "" || err != nil {
				t.Errorf("the daemon is not seen: %q, %v", who, err)
			}
			for _, when := range []string{"beside him", "when he has gone"} {
				if _, err := netns.Claim("v6net-test"); !errors.Is(err, netns.ErrClaimed) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
					t.Errorf("a second daemon %s: %v, want ErrClaimed with process %d", when, err, os.Getpid())
				}
				if when == "beside him" {
					if err := unix.Close(fd); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := release(); err != nil {
				t.Fatal(err)
			}
			if release, err = netns.Claim("v6net-test"); err != nil {
				t.Fatal(err)
			}
			if err := release(); err != nil {
				t.Error(err)
			}
		})
	}
}

// socketOf is a stream socket that a user has made and bound.
func socketOf(t *testing.T, uid int, name string) int {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := unix.SetfsuidRetUid(uid) // of this thread alone
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if _, back := unix.SetfsuidRetUid(was); err != nil || back != nil {
		t.Fatal(err, back)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// connect connects if that is possible at once.
func connect(t *testing.T, name string) (int, error) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd, unix.Connect(fd, &unix.SockaddrUnix{Name: name})
}

// Of many that begin at once, beside an intruder, not two hold the claim.
func TestClaimAtOnce(t *testing.T) {
	fd := socketOf(t, 65534, "@v6net-test")
	defer func() { _ = unix.Close(fd) }()
	var group sync.WaitGroup
	var mu sync.Mutex
	var releases []func() error
	for range 8 {
		group.Go(func() {
			release, err := netns.Claim("v6net-test")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				releases = append(releases, release)
			} else if !errors.Is(err, netns.ErrClaimed) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(releases) > 1 {
		t.Errorf("%d hold it", len(releases))
	}
	for _, release := range releases {
		if err := release(); err != nil {
			t.Error(err)
		}
	}
}

// A holder that is killed leaves nothing that would stop its successor.
func TestClaimEndsWithItsProcess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), claimEnv+"=v6net-test")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said string
	if _, err := fmt.Fscanln(out, &said); err != nil || said != "claimed" {
		t.Fatalf("the holder said %q, %v", said, err)
	}
	_, err = netns.Claim("v6net-test")
	if !errors.Is(err, netns.ErrClaimed) || !strings.Contains(err.Error(), fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("claim beside another process: %v, want ErrClaimed with process %d", err, cmd.Process.Pid)
	}
	cancel()
	_ = cmd.Wait()
	release, err := netns.Claim("v6net-test")
	if err != nil {
		t.Fatalf("claim after the holder was killed: %v", err)
	}
	_ = release()
}

// What is made alone is gone afterwards, and the process is where it was, its first
// thread included.
func TestAlone(t *testing.T) {
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // on whichever thread it comes to run
		var inside string
		if err := netns.Alone(func() (err error) {
			inside, err = os.Readlink("/proc/thread-self/ns/net")
			return err
		}); err != nil || inside == before || inside == "" {
			t.Fatalf("inside it is %q (%v), outside %q", inside, err, before)
		}
		if after, err := os.Readlink("/proc/self/ns/net"); err != nil || after != before {
			t.Fatalf("afterwards the process is in %q (%v), and was in %q", after, err, before)
		}
	}
	want := errors.New("no")
	if err := netns.Alone(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("Alone = %v, want the function's error", err)
	}
}
