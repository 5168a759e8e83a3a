package containers

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/docker/cli/templates"
	"github.com/moby/moby/api/types/container"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type psOptions struct {
	command.ListFlags
	quiet, size, sizeGiven, all, noTrunc, latest bool
	build, tree                                  bool
	last                                         int
	filter                                       opts.FilterOpt
}

// NewPs returns "ps".
func NewPs(a *command.App) *cobra.Command {
	o := psOptions{filter: opts.NewFilterOpt()}
	cmd := &cobra.Command{
		Use:   "ps [OPTIONS]",
		Short: "List containers",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.tree {
				return o.runTree(cmd.Context(), a)
			}
			o.sizeGiven = cmd.Flags().Changed("size")
			return o.run(cmd.Context(), a)
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Only display container IDs")
	set.BoolVarP(&o.size, "size", "s", false, "Display total file sizes")
	set.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	set.BoolVarP(&o.latest, "latest", "l", false, "Show the latest created container (includes all states)")
	set.BoolVar(&o.build, "build", false, "Show steps of builds as well; with --all those of the last builds, too")
	set.IntVarP(&o.last, "last", "n", -1, "Show n last created containers (includes all states)")
	set.BoolVar(&o.tree, "tree", false, "Show the processes of each container as a tree")
	o.Add(set)
	set.VarP(&o.filter, "filter", "f", "Filter output based on conditions provided")
	return command.Common(cmd, 3, "container ls", "container list", "container ps", "ps")
}

func (o *psOptions) run(ctx context.Context, a *command.App) error {
	if o.Format != "" && o.quiet {
		_, _ = io.WriteString(a.Err, "WARNING: Ignoring custom format, because both --format and --quiet are set.\n")
	}
	format := o.Format
	if format == "" {
		format = a.Config().PsFormat
	}
	list := mobyclient.ContainerListOptions{All: o.all, Limit: o.last, Size: o.size, Filters: o.filter.Value()}
	if o.latest && o.last == -1 {
		list.Limit = 1
	}
	usesSize, err := checkFormat(format)
	if err != nil {
		return err
	}
	// Sizes cost the daemon a walk through the files, so they are asked for
	// only where they are shown.
	if usesSize && !o.quiet && !o.sizeGiven {
		list.Size = true
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	res, err := o.list(ctx, c, list)
	if err != nil {
		return err
	}
	if o.build {
		steps, err := c.BuildSteps(ctx, o.all)
		if err != nil {
			return err
		}
		for _, s := range steps {
			res.Items = append(res.Items, stepSummary(&s))
		}
	}
	if done, err := o.JSON(a.Out, res.Items); done {
		return err
	}
	if o.noTrunc && !o.quiet {
		tellUnhealthy(ctx, c, res.Items)
	}
	return formatter.ContainerWrite(formatter.Context{
		Output: command.TableWriter(a.Out, format),
		Format: formatter.NewContainerFormat(format, o.quiet, list.Size),
		Trunc:  !o.noTrunc,
	}, res.Items)
}

// list asks for the containers, and for no more of them than is shown.
func (o *psOptions) list(ctx context.Context, c *client.Client, what mobyclient.ContainerListOptions) (mobyclient.ContainerListResult, error) {
	if !o.quiet || o.WantsJSON() || what.Size {
		return c.ContainerList(ctx, what)
	}
	ids, err := c.ContainerIDs(ctx, what)
	res := mobyclient.ContainerListResult{Items: make([]container.Summary, len(ids))}
	for i, id := range ids {
		res.Items[i].ID = id
	}
	return res, err
}

// tellUnhealthy adds to the status of containers that are not healthy what their
// last check has said. Docker's daemon does not know it.
func tellUnhealthy(ctx context.Context, c *client.Client, list []container.Summary) {
	const mark = "(" + string(container.Unhealthy) + ")"
	for n := range list {
		if !strings.Contains(list[n].Status, mark) {
			continue
		}
		h, err := c.Health(ctx, list[n].ID)
		if err != nil {
			return // the list itself is worth more
		}
		if text := h.LastFailure(); text != "" {
			list[n].Status = strings.Replace(list[n].Status, mark, "("+string(container.Unhealthy)+": "+visible(text)+")", 1)
		}
	}
}

// checkFormat tells whether a template is one, and whether it shows sizes.
func checkFormat(format string) (usesSize bool, err error) {
	if format == "" {
		return false, nil
	}
	tmpl, err := templates.Parse(format)
	if err != nil {
		return false, fmt.Errorf("failed to parse template: %w", err)
	}
	probe := formatter.NewContainerContext()
	if err := tmpl.Execute(io.Discard, probe); err != nil {
		return false, fmt.Errorf("failed to execute template: %w", err)
	}
	_, usesSize = probe.FieldsUsed["Size"]
	return usesSize, nil
}
