package main

import (
	"io"
	"sync"
	"time"
)

const (
	// linesAhead is how many lines wait for whoever reads the log.
	linesAhead = 1024
	// flushTime is how long the last of them have when the daemon ends.
	flushTime = time.Second
)

// logLines writes the lines of a log and makes nobody wait: where they go to may be a pipe that
// is not read any more, and no container is to wait for that. Lines that are too many by then
// are lost and counted.
type logLines struct {
	lines chan []byte
	ended chan struct{}

	mu     sync.Mutex
	closed bool
	lost   int
}

func newLogLines() *logLines {
	return &logLines{lines: make(chan []byte, linesAhead), ended: make(chan struct{})}
}

// run writes to w until close. When lines are read again it says, by a line that say makes, how
// many were lost. That something cannot be written there is nowhere to say.
func (l *logLines) run(w io.Writer, say func(lost int) []byte) {
	defer close(l.ended)
	for line := range l.lines {
		_, _ = w.Write(line)
		if lost := l.takeLost(); lost > 0 {
			_, _ = w.Write(say(lost))
		}
	}
}

// Write takes one line. It never fails and never waits.
func (l *logLines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return len(line), nil
	}
	select {
	case l.lines <- append([]byte(nil), line...): // logrus uses its buffer again
	default:
		l.lost++
	}
	return len(line), nil
}

func (l *logLines) takeLost() (lost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost, l.lost = l.lost, 0
	return lost
}

// close waits until all is written, as long as somebody reads it. What comes later is not.
func (l *logLines) close() {
	l.mu.Lock()
	l.closed = true
	close(l.lines)
	l.mu.Unlock()
	select {
	case <-l.ended:
	case <-time.After(flushTime):
	}
}
