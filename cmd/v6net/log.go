package main

import (
	"fmt"
	"io"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
	logrusslog "github.com/sirupsen/logrus/hooks/slog"
)

// newLog builds the daemon's logrus logger and the slog front that packages take. It writes to w
// until it is closed, after the last line.
func newLog(w io.Writer, level, format string) (log *slog.Logger, closeLog func(), err error) {
	l := logrus.New()
	parsed, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, nil, fmt.Errorf("--log-level: %q is not allowed (allowed: error, warn, info, debug)", level)
	}
	l.SetLevel(parsed)
	var formatter logrus.Formatter = &logrus.TextFormatter{FullTimestamp: true}
	if format == "json" {
		formatter = &logrus.JSONFormatter{}
	}
	l.SetFormatter(bounded{formatter})
	lines := newLogLines()
	l.SetOutput(lines)
	go lines.run(w, func(lost int) []byte {
		line, _ := l.Formatter.Format(&logrus.Entry{Logger: l, Time: time.Now(), Level: logrus.WarnLevel, // of a number nothing can fail
			Message: "lines of the log are lost: it was not read", Data: logrus.Fields{"lines": lost}})
		return line
	})
	return slog.New(logrusslog.NewHandler(l, nil)), lines.close, nil
}

// longestValue is how much of a value is logged, in bytes. What others send may be in one, and
// Docker stops reading a plugin's output for good after a line of 64 KiB (bufio.MaxScanTokenSize).
const longestValue = 2 << 10

// bounded cuts what is too long to be logged.
type bounded struct{ logrus.Formatter }

func (b bounded) Format(e *logrus.Entry) ([]byte, error) {
	e.Message = cut(e.Message)
	for key, value := range e.Data { // a copy of ours: logrus duplicates the entry
		switch value.(type) {
		case bool, int, int64, uint64, float64:
		default:
			if text := fmt.Sprint(value); len(text) > longestValue {
				e.Data[key] = cut(text)
			}
		}
	}
	return b.Formatter.Format(e)
}

func cut(text string) string {
	if len(text) <= longestValue {
		return text
	}
	end := longestValue
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return fmt.Sprintf("%s… (%d bytes more)", text[:end], len(text)-end)
}
