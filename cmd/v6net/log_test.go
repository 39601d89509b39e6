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
	there := 0
	for lines := bufio.NewScanner(reader); lines.Scan(); {
		if strings.Contains(lines.Text(), "msg=line") {
			there++
		}
		if strings.Contains(lines.Text(), "lines of the log are lost") {
			if !strings.Contains(lines.Text(), fmt.Sprintf("lines=%d", linesAhead+more-there)) {
				t.Errorf("of %d lines %d are there: %s", linesAhead+more, there, lines.Text())
			}
			break
		}
	}
	if there < linesAhead {
		t.Errorf("%d lines are there, want the first %d", there, linesAhead)
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
