package testnet

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// MainApart is [Main] for a package whose tests need what a process has once: the host
// that it is, its environment, what it mounts. They cannot run at the same time in one
// process, and most of their time they wait. So the tests that a pattern matches run in a
// process and namespaces of their own, one process for each pattern, and those that none
// matches in another one; as many at a time as -parallel says, those named first first.
// What a process says is printed when it has ended.
//
// All run in one process, one after the other, as by [Main], when somebody asks for
// some of the tests, or for something else that is one process's.
func MainApart(m *testing.M, patterns ...string) {
	flag.Parse()
	if os.Getenv(stageEnv) != "" || os.Geteuid() != 0 || !divisible() {
		Main(m)
		return
	}
	failed, err := runApart(patterns)
	switch {
	case err != nil:
		fail(err)
	case failed:
		_, _ = fmt.Fprintln(os.Stdout, "FAIL")
		leave(1)
	}
	_, _ = fmt.Fprintln(os.Stdout, "PASS")
	leave(0)
}

// divisible reports whether the flags mean the same for several processes as for one.
func divisible() bool {
	whole := true
	flag.Visit(func(f *flag.Flag) {
		switch strings.TrimPrefix(f.Name, "test.") { // as `go test` hands them on
		case "count", "failfast", "fullpath", "paniconexit0", "parallel", "short", "testlogfile", "timeout", "v":
		default:
			whole = false
		}
	})
	return whole
}

// share is the tests of one process.
type share struct {
	flag   string // that chooses them
	output bytes.Buffer
	status int
	err    error // why they have not run
}

// run runs the share's tests.
func (s *share) run() {
	s.status, s.err = isolate(func(cmd *exec.Cmd) {
		// What they have read is not noted, so that they run again each time: the kernel and
		// the programs that they run are not among what `go test` takes note of, either.
		cmd.Args = slices.DeleteFunc(cmd.Args, func(a string) bool { return strings.HasPrefix(a, "-test.testlogfile=") })
		cmd.Args = append(cmd.Args, s.flag)
		cmd.Stdout, cmd.Stderr = &s.output, &s.output
	})
	if s.err == nil && bytes.Contains(s.output.Bytes(), []byte("warning: no tests to run")) {
		s.err = errors.New("there are none")
	}
}

// said is what its tests have said, without the last line, which is for all shares together.
func (s *share) said() []byte {
	lines := bytes.SplitAfter(s.output.Bytes(), []byte("\n"))
	return bytes.Join(slices.DeleteFunc(lines, func(line []byte) bool {
		word := strings.TrimLeft(string(line), "\x16") // which -json has before it
		return word == "PASS\n" || word == "FAIL\n"
	}), nil)
}

// runApart runs the shares, and reports whether a test has failed.
func runApart(patterns []string) (failed bool, err error) {
	atOnce, err := strconv.Atoi(flag.Lookup("test.parallel").Value.String())
	if err != nil {
		return false, fmt.Errorf("-parallel: %w", err)
	}
	var shares []*share
	for _, p := range patterns {
		shares = append(shares, &share{flag: "-test.run=" + p})
	}
	shares = append(shares, &share{flag: "-test.skip=" + strings.Join(patterns, "|")})

	next, done := make(chan *share, len(shares)), make(chan *share)
	for _, s := range shares {
		next <- s
	}
	close(next)
	for range min(atOnce, len(shares)) {
		go func() {
			for s := range next {
				s.run()
				done <- s
			}
		}()
	}
	for range shares {
		s := <-done
		_, _ = os.Stdout.Write(s.said())
		failed = failed || s.status != 0
		if s.err != nil {
			err = errors.Join(err, fmt.Errorf("tests by %s: %w", s.flag, s.err))
		}
	}
	return failed, err
}
