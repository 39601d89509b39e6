package main

import (
	"encoding/json"
	"io"
)

// printJSON writes what a command has found out for programs.
func printJSON(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

// printLine writes one of many values, on a line of its own.
func printLine(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
