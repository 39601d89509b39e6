package main

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

// referenceCommand is what docs/commands.md, the manual page and the reference
// configuration are made of, so that they say what the program does.
type referenceCommand struct {
	As string `help:"commands: every command and its flags, in Markdown; settings: the daemon's environment, as of a service." enum:"commands,settings" default:"commands"`
}

// Run prints it.
func (c *referenceCommand) Run(k *kong.Kong) error {
	var b bytes.Buffer
	if c.As == "settings" {
		writeSettings(&b, k.Model.Node)
	} else {
		writeCommands(&b, k.Model.Node)
	}
	_, err := k.Stdout.Write(b.Bytes())
	return err
}

// writeCommands writes what people can call, in the order of the tree.
func writeCommands(b *bytes.Buffer, node *kong.Node) {
	for _, child := range node.Children {
		if child.Hidden {
			continue
		}
		if child.Leaf() {
			writeCommand(b, child)
		}
		writeCommands(b, child)
	}
}

func writeCommand(b *bytes.Buffer, node *kong.Node) {
	usage := "v6net " + node.Path()
	for _, p := range node.Positional {
		usage += " " + p.Summary()
	}
	fmt.Fprintf(b, "## %s\n\n%s\n\n", usage, node.Help)
	if node.Detail != "" {
		fmt.Fprintf(b, "%s\n\n", node.Detail)
	}
	var rows []string
	for _, p := range node.Positional {
		rows = append(rows, row("`"+strings.Trim(p.Summary(), "[]<>")+"`", "", p.Default, p.Help))
	}
	for _, flag := range ownFlags(node) {
		rows = append(rows, row("`--"+flag.Name+value(flag)+"`", strings.Join(flag.Envs, ", "), flag.Default, flag.Help))
	}
	if len(rows) > 0 {
		fmt.Fprintf(b, "| | variable | default | |\n| --- | --- | --- | --- |\n%s\n", strings.Join(rows, ""))
	}
}

// value is what a flag takes.
func value(flag *kong.Flag) string {
	switch {
	case flag.IsBool():
		return ""
	case flag.Enum != "":
		return "=" + strings.ReplaceAll(flag.Enum, ",", "\\|") // in a table
	case flag.PlaceHolder != "":
		return "=" + flag.PlaceHolder
	case flag.Target.Kind() == reflect.Int:
		return "=N"
	default:
		return "=" + strings.ToUpper(flag.Target.Type().Name())
	}
}

func row(name, variable, fallback, help string) string {
	return fmt.Sprintf("| %s | %s | %s | %s |\n", name, code(variable), code(fallback), strings.ReplaceAll(help, "|", "\\|"))
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// ownFlags are a command's without --help.
func ownFlags(node *kong.Node) (flags []*kong.Flag) {
	for _, f := range node.Flags {
		if f.Name != "help" && !f.Hidden {
			flags = append(flags, f)
		}
	}
	return flags
}

// writeSettings writes a file of environment variables with every setting of the
// daemon at its default, commented out.
func writeSettings(w io.Writer, node *kong.Node) {
	for _, child := range node.Children {
		if child.Name != "daemon" {
			continue
		}
		for _, f := range ownFlags(child) {
			if len(f.Envs) > 0 {
				fallback := f.Default
				if f.IsBool() && fallback == "" {
					fallback = "false"
				}
				fmt.Fprintf(w, "\n# %s\n#%s=%s\n", f.Help, f.Envs[0], fallback) //nolint:errcheck // to a buffer
			}
		}
	}
}
