package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"
	logrusslog "github.com/sirupsen/logrus/hooks/slog"
)

// newLog builds the daemon's logrus logger and the slog front that packages take.
func newLog(w io.Writer, level, format string) (*slog.Logger, error) {
	l := logrus.New()
	l.SetOutput(w)
	parsed, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("--log-level: %q is not allowed (allowed: error, warn, info, debug)", level)
	}
	l.SetLevel(parsed)
	if format == "json" {
		l.SetFormatter(&logrus.JSONFormatter{})
	} else {
		l.SetFormatter(&logrus.TextFormatter{FullTimestamp: true})
	}
	return slog.New(logrusslog.NewHandler(l, nil)), nil
}
