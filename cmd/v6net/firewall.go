package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/v6net/v6net/internal/spec"
)

type firewallCommand struct {
	Explain firewallExplainCommand `cmd:"" help:"Say what becomes of a new connection, and which rule decides."`
}

type firewallExplainCommand struct {
	daemonSocket
	From string `arg:"" help:"Address of the caller."`
	To   string `arg:"" help:"Address that is called: of a container, of this host, or of somebody else."`
	Port string `arg:"" help:"PORT, PORT/udp, PORT/sctp, or ping." placeholder:"PORT"`
	JSON bool   `help:"Print JSON."`
}

// Run asks the daemon and prints its answer.
func (c firewallExplainCommand) Run(ctx context.Context) error {
	call, err := spec.ParseCall(c.From, c.To, c.Port)
	if err != nil {
		return usageError{err}
	}
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	judgement, err := client.Explain(ctx, call)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(os.Stdout, judgement)
	}
	return printJudgement(os.Stdout, judgement)
}

// printJudgement writes one for people.
func printJudgement(w io.Writer, j spec.Judgement) error {
	text := ""
	if j.Warning != "" {
		text = "WARNING: " + j.Warning + "\n"
	}
	for _, step := range j.Steps {
		text += step + "\n"
	}
	text += fmt.Sprintf("%s: %s\n", j.Verdict, j.Why)
	if j.Rule != "" {
		text += fmt.Sprintf("  table %s, chain %s: %s\n", j.Table, j.Chain, j.Rule)
	}
	_, err := io.WriteString(w, text)
	return err
}
