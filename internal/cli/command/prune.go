package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/go-units"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Pruning is a command that removes what nothing uses.
type Pruning struct {
	Name   string // "image prune"
	Short  string
	Filter string // example of a filter
	// Removes names what will be removed, for the question before it.
	Removes func() string
	// Flags declares flags besides --force and --filter; nil: there are none.
	Flags func(*pflag.FlagSet)
	// Check refuses filters before anybody is asked; nil: any will do.
	Check func(mobyclient.Filters) error
	// Prune removes, and returns the bytes that this has freed and a list for
	// people.
	Prune func(ctx context.Context, filters mobyclient.Filters) (reclaimed uint64, text string, err error)
	// NoSpace is set if what is removed takes no space worth telling.
	NoSpace bool
}

// NewPrune returns the command.
func (p Pruning) NewPrune(a *App) *cobra.Command {
	var force bool
	filter := opts.NewFilterOpt()
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: p.Short,
		Args:  NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.run(cmd.Context(), a, filter.Value(), force)
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	set.Var(&filter, "filter", fmt.Sprintf("Provide filter values (e.g. %q)", p.Filter))
	if p.Flags != nil {
		p.Flags(set)
	}
	return cmd
}

func (p Pruning) run(ctx context.Context, a *App, filters mobyclient.Filters, force bool) error {
	if p.Check != nil {
		if err := p.Check(filters); err != nil {
			return err
		}
	}
	if !force {
		yes, err := a.Confirm(ctx, "WARNING! This will remove "+p.Removes()+"\nAre you sure you want to continue?")
		if err != nil {
			return err
		}
		if !yes {
			return Cancelled(p.Name + " has been cancelled")
		}
	}
	reclaimed, text, err := p.Prune(ctx, filters)
	if err != nil {
		return err
	}
	if text != "" {
		_, _ = fmt.Fprintln(a.Out, text)
	}
	if !p.NoSpace {
		_, _ = fmt.Fprintln(a.Out, "Total reclaimed space:", units.HumanSize(float64(reclaimed)))
	}
	return nil
}

// PruneFilters returns filters together with those that the configuration
// sets for every prune, leaving out what filters contradicts.
func (a *App) PruneFilters(filters mobyclient.Filters) mobyclient.Filters {
	out := filters.Clone()
	if out == nil {
		out = mobyclient.Filters{}
	}
	for _, f := range a.Config().PruneFilters {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			continue
		}
		switch key {
		case "label":
			if out["label!"][value] {
				continue
			}
		case "label!":
			if out["label"][value] {
				continue
			}
		}
		out.Add(key, value)
	}
	return out
}
