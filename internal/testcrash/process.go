package testcrash

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Process is a program whose changes are counted.
type Process struct {
	Log string // the file that it writes its log to, which is no part of the world

	cmd      *exec.Cmd
	listener int
	ended    chan struct{}
	begun    chan struct{} // closed when cmd.Process is there
	err      error         // of the wait for its end

	mu      sync.Mutex
	points  []string           // the changes since Count
	wrote   map[uint32]setting // the last one that each thread has written
	kill    int                // before which of them it is killed; 0: before none
	killed  bool
	failure error
}

// Start starts cmd, whose outputs have to be files: log is the name of the one that
// it writes its log to. It is killed before the kill'th change; 0: it is not.
func Start(cmd *exec.Cmd, log string, kill int) (*Process, error) {
	p := &Process{Log: log, cmd: cmd, begun: make(chan struct{}), ended: make(chan struct{}), kill: kill, wrote: map[uint32]setting{}}
	started := make(chan error)
	go p.start(started)
	if err := <-started; err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// Run starts cmd as it runs elsewhere: nothing is counted, and nothing slower for it.
func Run(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// start starts the program by a thread that has the filter, and has no other work and ends.
func (p *Process) start(started chan error) {
	runtime.LockOSThread() // for good
	if unix.Gettid() == unix.Getpid() {
		// Go keeps this one, though idle. While it is held another one is taken.
		again := make(chan error)
		go p.start(again)
		started <- <-again
		runtime.UnlockOSThread()
		return
	}
	var err error
	if p.listener, err = install(); err == nil {
		go p.serve()
		err = p.cmd.Start()
	}
	close(p.begun)
	started <- err
}

// serve counts calls and lets them be made, until nobody is left who makes any.
func (p *Process) serve() {
	defer func() { _ = unix.Close(p.listener) }()
	for {
		ready := []unix.PollFd{{Fd: int32(p.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err != nil && !errors.Is(err, unix.EINTR) {
			p.fail(fmt.Errorf("wait for system calls: %w", err))
			return
		}
		if ready[0].Revents&unix.POLLIN == 0 {
			if ready[0].Revents != 0 {
				return
			}
			continue
		}
		n, ok, err := receive(p.listener)
		if err != nil {
			p.fail(err)
			return
		}
		if !ok || !p.count(n) {
			continue
		}
		if err := proceed(p.listener, n); err != nil {
			p.fail(err)
			return
		}
	}
}

// count counts a call if it is a change, and reports whether it is to be made.
func (p *Process) count(n notification) bool {
	what := p.change(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	if what == "" {
		return true
	}
	if p.killed || len(p.points)+1 == p.kill {
		<-p.begun // it makes its first calls while it is being started
	}
	if p.killed {
		// Of a program that the killed one has run, and that lives on.
		return threadGroup(int(n.tid)) != p.cmd.Process.Pid
	}
	if p.isStartedOver(n, what) {
		return true
	}
	p.points = append(p.points, what)
	if len(p.points) != p.kill {
		return true
	}
	p.killed = true
	p.failure = errors.Join(p.failure, p.cmd.Process.Kill())
	return false
}

// setting is a call that writes one.
type setting struct {
	args        [6]uint64
	what, value string
}

// isStartedOver reports whether a call is its thread's last write of a setting once more:
// where the kernel finds the lock of the network's settings taken it starts the call over
// until it has it (restart_syscall, net/ipv6/addrconf.c), and asks each time. The program
// makes one change.
func (p *Process) isStartedOver(n notification, what string) bool {
	if !strings.HasPrefix(what, "write /proc/sys/") {
		return false
	}
	now := setting{n.args, what, string(memory(int(n.tid), n.args[1], min(n.args[2], 64)))}
	last := p.wrote[n.tid]
	p.wrote[n.tid] = now
	return now == last
}

func (p *Process) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure = errors.Join(p.failure, err)
}

// Count begins to count anew: the process is killed before the kill'th change from now
// on; 0: it is not. It answers what Points has answered until now.
func (p *Process) Count(kill int) (points []string, killed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	points, p.points, p.kill = p.points, nil, kill
	return points, p.killed
}

// Points are the changes since Count, or the start: the last one is that before which it
// was killed, if it was.
func (p *Process) Points() (points []string, killed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.points...), p.killed
}

// Kill kills the process, wherever it is, and waits for its end.
func (p *Process) Kill() error {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failure
}

// Stop ends the process as a service manager does, and answers how it has ended.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	<-p.ended
	return p.err
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// PID is the process's.
func (p *Process) PID() int { return p.cmd.Process.Pid }
