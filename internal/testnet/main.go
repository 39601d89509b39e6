package testnet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// stageEnv tells a re-executed test binary how far it is. Its value is
// "STAGE NETNS", NETNS being the network namespace the run was started from: a
// stray variable can therefore never make tests run on the machine itself.
const stageEnv = "V6NET_TESTNET"

// Stages of one run: the binary as `go test` starts it has none, its child is
// process 1 of the new namespaces, and that one's child runs the tests.
const (
	stageInit  = "init"
	stageTests = "tests"
)

// forwarded are the signals that a run passes down to its tests; `go test`
// sends SIGQUIT to a binary that outlives its timeout.
var forwarded = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP}

// Main is a package's TestMain: it runs the tests of m in new network, mount
// and process namespaces, with a private /run, a fresh /proc and only the
// loopback interface, and exits with their status. It exits with a loud
// message and status 1 when it is not run by root.
//
// The tests do not run as process 1 but as its child: process 1 collects the
// orphans of daemons under test, which would otherwise race with os/exec for
// the statuses of the tests' own children.
func Main(m *testing.M) {
	stage, err := currentStage()
	if err != nil {
		fail(err)
	}
	switch stage {
	case stageTests:
		os.Exit(m.Run())
	case stageInit:
		status, err := initialize()
		if err != nil {
			fail(err)
		}
		leave(status)
	}
	if os.Geteuid() != 0 {
		fail(errors.New("these tests make network namespaces and must run as root; they are not skipped"))
	}
	status, err := isolate(func(*exec.Cmd) {})
	if err != nil {
		fail(err)
	}
	leave(status)
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "FAIL: testnet: %v\n", err)
	leave(1)
}

// leave ends a process that ran no tests. With -race, os.Exit would first wait
// a second for late reports.
func leave(status int) { unix.Exit(status) }

// currentStage reads the stage that this process was started for.
func currentStage() (string, error) {
	stage, origin, marked := strings.Cut(os.Getenv(stageEnv), " ")
	if !marked {
		return "", nil
	}
	here, err := networkNamespace()
	if err != nil {
		return "", err
	}
	if here == origin {
		return "", fmt.Errorf("%s is set but this process is still in %s", stageEnv, here)
	}
	return stage, nil
}

// networkNamespace names the namespace of this process, as "net:[4026531840]".
func networkNamespace() (string, error) {
	name, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return "", fmt.Errorf("read own network namespace: %w", err)
	}
	return name, nil
}

// isolate runs this binary once more as process 1 of new namespaces, with what
// prepare has changed, and returns its exit status.
func isolate(prepare func(*exec.Cmd)) (int, error) {
	origin, err := networkNamespace()
	if err != nil {
		return 0, err
	}
	// The kernel sends the death signal when the thread that started the
	// child ends, so that thread has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := nextStage(stageInit + " " + origin)
	if err != nil {
		return 0, err
	}
	prepare(cmd)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	stop, err := startForwarding(cmd)
	if err != nil {
		return 0, fmt.Errorf("start in new namespaces: %w", err)
	}
	defer stop()
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		return 0, fmt.Errorf("wait for the tests: %w", err)
	}
	return exitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
}

// initialize is process 1: it furnishes the namespaces, starts the tests and
// reaps whatever ends, until the tests do. It returns their exit status.
func initialize() (int, error) {
	if err := furnish(); err != nil {
		return 0, err
	}
	_, origin, _ := strings.Cut(os.Getenv(stageEnv), " ")
	cmd, err := nextStage(stageTests + " " + origin)
	if err != nil {
		return 0, err
	}
	stop, err := startForwarding(cmd)
	if err != nil {
		return 0, fmt.Errorf("start the tests: %w", err)
	}
	defer stop()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for the tests: %w", err)
		case pid == cmd.Process.Pid:
			return exitStatus(status), nil
		}
	}
}

// nextStage is this very command with its standard streams and the given mark.
func nextStage(mark string) (*exec.Cmd, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own test binary: %w", err)
	}
	cmd := exec.Command(binary, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageEnv+"="+mark)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd, nil
}

// startForwarding starts cmd and passes signals on to it until stop is called.
func startForwarding(cmd *exec.Cmd) (stop func(), err error) {
	signals := make(chan os.Signal, 8)
	// Before the start: no signal may fall between the two.
	signal.Notify(signals, forwarded...)
	if err := cmd.Start(); err != nil {
		signal.Stop(signals)
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range signals {
			_ = cmd.Process.Signal(s) // an ended child needs no signal
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}, nil
}

// exitStatus turns a wait status into what a shell would report.
func exitStatus(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// furnish makes the new namespaces into a host: mounts that nobody else sees,
// /proc of these processes, an empty /run and a loopback interface. /sys stays
// as it is, since the cgroup mounts live below it.
func furnish() error {
	mounts := []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"", "/", "", unix.MS_PRIVATE | unix.MS_REC, ""},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	}
	// The machine's own, which this process sees no more in a moment.
	neighbours, neighboursErr := os.Open("/proc/1/net/stat/ndisc_cache")
	for _, m := range mounts {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %q on %s: %w", m.kind, m.target, err)
		}
	}
	if err := os.Mkdir(namespaceDir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", namespaceDir, err)
	}
	if neighboursErr == nil { // else a failure will not say whether it is by that
		defer func() { _ = neighbours.Close() }()
		if err := os.WriteFile(neighbourStatistics, nil, 0o444); err != nil {
			return fmt.Errorf("make %s: %w", neighbourStatistics, err)
		}
		_ = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", neighbours.Fd()), neighbourStatistics, "", unix.MS_BIND, "")
	}
	return nameOwnNamespace()
}
