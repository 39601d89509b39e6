package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// Docker reads lines of less than 64 KiB, and stops for good at a longer one.
func TestLongValuesAreCut(t *testing.T) {
	long := strings.Repeat("ä", 100_000)
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log, closeLog, err := newLog(&out, "info", format)
		if err != nil {
			t.Fatal(err)
		}
		log.Info(long, "text", long, "err", errors.New(long), "list", []string{long}, "short", "value")
		log.Info("next")
		closeLog()
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != 2 || len(lines[0]) >= bufio.MaxScanTokenSize/2 || !strings.Contains(lines[0], "bytes more") || !strings.Contains(lines[0], "value") {
			t.Errorf("%s: %d lines, the first one of %d bytes", format, len(lines), len(lines[0]))
		}
		if format == "json" && !json.Valid([]byte(lines[0])) {
			t.Errorf("no JSON: %s", lines[0])
		}
	}
}

// Whoever logs is not kept waiting by a pipe that nobody reads, and it is said later what was lost.
func TestLogIsNotRead(t *testing.T) {
	reader, writer := io.Pipe()
	log, closeLog, err := newLog(writer, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	const more = 500
	log.Info("line")
	if _, err := reader.Read(make([]byte, 1)); err != nil { // the rest of this line is being written from now on
		t.Fatal(err)
	}
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		for range linesAhead + more {
			log.Info("line")
		}
	}()
	select {
	case <-logged:
	case <-time.After(30 * time.Second):
		t.Fatal("who logs waits for who reads")
	}
	said, there := false, 0
	for lines := bufio.NewScanner(reader); there <= linesAhead && lines.Scan(); {
		switch line := lines.Text(); {
		case strings.Contains(line, "msg=line"):
			there++
		case strings.Contains(line, "lines of the log are lost") && strings.Contains(line, fmt.Sprintf("lines=%d", more)):
			said = true
		default:
			t.Error(line)
		}
	}
	if !said || there != linesAhead+1 {
		t.Errorf("%d lines are there, want %d; said what is lost: %t", there, linesAhead+1, said)
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	closeLog()
	_ = writer.Close()
}

// A daemon ends also when nobody reads what it says.
func TestLogEndsUnread(t *testing.T) {
	_, writer := io.Pipe()
	log, closeLog, err := newLog(writer, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("line")
	ended := make(chan struct{})
	go func() { closeLog(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the end waits for who reads")
	}
	log.Info("late")
}
