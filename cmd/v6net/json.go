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
