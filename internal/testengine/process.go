package testengine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is one run of dockerd.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed after cmd.Wait
	err   error         // of cmd.Wait; read after ended
}

// startProcess starts cmd with its output appended to the log file.
func startProcess(cmd *exec.Cmd, logPath string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the engine's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start dockerd: %w", err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// await calls ready until it succeeds. It fails when the process ends first or
// ctx does.
func (p *process) await(ctx context.Context, ready func(context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("dockerd ended while starting: %w", errors.Join(p.err, err))
		case <-ctx.Done():
			return fmt.Errorf("dockerd does not answer: %w", err)
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// end sends a signal and waits until the process has ended. After the timeout
// it kills the process and reports that as an error.
func (p *process) end(sig syscall.Signal, timeout time.Duration) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to dockerd: %w", sig, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(timeout):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill dockerd: %w", err)
	}
	<-p.ended
	return fmt.Errorf("dockerd had to be killed: not ended %v after %v", timeout, sig)
}
