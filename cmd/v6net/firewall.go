package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/v6net/v6net/internal/spec"
)

type firewallCommand struct {
	Explain firewallExplainCommand `cmd:"" help:"Say what becomes of a new connection, and which rule decides."`
}

type firewallExplainCommand struct {
	daemonSocket
	From string `arg:"" help:"The caller: an address, or a container by its name."`
	To   string `arg:"" help:"Who is called: an address of a container, of this host or of somebody else, or a container by its name."`
	Port string `arg:"" help:"PORT, PORT/udp, PORT/sctp, or ping." placeholder:"PORT"`
	JSON bool   `help:"Print JSON."`
}

// Run asks the daemon and prints its answer.
func (c firewallExplainCommand) Run(ctx context.Context) error {
	call, err := spec.ParseCall(c.From, c.To, c.Port)
	if err != nil && isAddress(c.From) && isAddress(c.To) {
		return usageError{err}
	}
	client, failed := c.client(ctx)
	if failed != nil {
		return failed
	}
	status, unnamed := client.Status(ctx)
	if unnamed == nil {
		nameContainers(ctx, &status)
	}
	if err != nil { // there are names
		from, to, err := callEnds(status, c.From, c.To)
		if err != nil {
			return errors.Join(err, unnamed)
		}
		if call, err = spec.ParseCall(from.String(), to.String(), c.Port); err != nil {
			return usageError{err}
		}
	}
	judgement, err := client.Explain(ctx, call)
	if err != nil {
		return err
	}
	if unnamed == nil { // without names the judgement is as true
		nameJudged(&judgement, status)
	}
	if c.JSON {
		return printJSON(os.Stdout, judgement)
	}
	return printJudgement(os.Stdout, judgement)
}

// nameJudged says networks and containers as the status does: a daemon beside Docker has
// no names of its own, which tells drivers none.
func nameJudged(j *spec.Judgement, s spec.Status) {
	var pairs []string
	for _, n := range s.Networks {
		if n.Name != "" {
			pairs = append(pairs, "network "+spec.ShortID(n.ID), "network "+called(n.ID, n.Name))
		}
		for _, ep := range n.Endpoints {
			if ep.Name != "" {
				pairs = append(pairs, "endpoint "+spec.ShortID(ep.ID), "container "+ep.Name)
			}
		}
	}
	names := strings.NewReplacer(pairs...)
	j.Why = names.Replace(j.Why)
	for i, step := range j.Steps {
		j.Steps[i] = names.Replace(step)
	}
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
