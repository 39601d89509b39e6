//go:build netns

package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/v6net/v6net/internal/testnet"
)

// argsEnv makes a child of the test binary the program itself.
const argsEnv = "V6NET_TEST_ARGS"

func TestMain(m *testing.M) {
	if args := os.Getenv(argsEnv); args != "" {
		os.Args = append([]string{"v6net"}, strings.Fields(args)...)
		main()
		os.Exit(0)
	}
	// Those that take longest first. Each has this host to itself.
	testnet.MainApart(m, "^TestAHundredNetworksAreRenumbered$", "^TestRouterRenumbersItsLink$", "^TestWhatFollows$", "^TestFallback$",
		"^(TestLinkLosesItsPrefixForAMoment|TestUplinkIsRenamedWhileDown)$", "^(TestClouds|TestCloudTakesBackWhileNoDaemonRuns)$", "^TestNDProxy")
}

// program is v6net as a process of a host.
type program struct {
	cmd  *exec.Cmd
	read chan struct{} // all that it says

	mu  sync.Mutex
	log []string
}

// operating is a command of an operator's that asks the site's daemon, and is killed in
// the end if it has not ended before.
func (s *site) operating(t *testing.T, command, args string) *program {
	t.Helper()
	p := startProgram(t, testnet.Self(t), command+" --socket "+s.socket+" "+args)
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		_ = p.wait() // it may have ended before
	})
	return p
}

// startProgram starts v6net with arguments that have no spaces in them. Whoever starts
// it ends it.
func startProgram(t *testing.T, host *testnet.Host, args string) *program {
	t.Helper()
	p := &program{cmd: host.Command(context.Background(), os.Args[0]), read: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), argsEnv+"="+args)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.read)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.log = append(p.log, s.Text())
			p.mu.Unlock()
		}
	}()
	return p
}

func (p *program) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// end ends it as a service manager does. What it has said is logged with a test that fails.
func (p *program) end(t *testing.T) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		t.Errorf("v6net ended with %v", err)
	}
	if t.Failed() {
		t.Logf("v6net says:\n%s", strings.Join(p.log, "\n"))
	}
}

// wait waits for its end.
func (p *program) wait() error {
	<-p.read
	return p.cmd.Wait()
}

// said is how many lines say all of the words.
func (p *program) said(words ...string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
next:
	for _, line := range p.log {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		n++
	}
	return n
}
