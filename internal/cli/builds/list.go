package builds

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

type listOptions struct {
	command.ListFlags
	quiet, noTrunc bool
	limit          int
}

func newList(a *command.App) *cobra.Command {
	o := listOptions{}
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List builds, the newest first",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), a)
		},
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Only display IDs")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
	set.IntVarP(&o.limit, "last", "n", 0, "Only the last ones")
	o.Add(set)
	return cmd
}

func (o *listOptions) run(ctx context.Context, a *command.App) error {
	if o.limit < 0 {
		return errors.New("invalid argument: --last must not be negative")
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	list, err := c.Builds(ctx, o.limit)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, list); done {
		return err
	}
	format := o.Or("")
	switch {
	case o.quiet:
		format = `{{.ID}}`
	case format == formatter.TableFormatKey:
		format = `table {{.ID}}\t{{.Name}}\t{{.Status}}\t{{.Created}}\t{{.Duration}}\t{{.Steps}}`
	}
	rows := make([]formatter.SubContext, len(list))
	for n, b := range list {
		rows[n] = &buildRow{Build: b, short: !o.noTrunc}
	}
	return command.WriteRows(a.Out, format, buildHeader(), rows)
}

// buildRow is a build as templates see it, with all of its fields besides.
type buildRow struct {
	formatter.HeaderContext
	api.Build
	short bool
}

func buildHeader() *buildRow {
	return &buildRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"ID": "BUILD ID", "Name": "NAME", "Status": "STATUS", "Created": "CREATED", "Duration": "DURATION", "Steps": "STEPS",
		"Image": "IMAGE", "Door": "DOOR",
	}}}
}

// MarshalJSON is for the format "json".
func (r *buildRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *buildRow) ID() string {
	if r.short {
		return shortID(r.Build.ID)
	}
	return r.Build.ID
}

// Name is the image's, or else what was built.
func (r *buildRow) Name() string { return command.Visible(buildName(&r.Build)) }

func buildName(b *api.Build) string {
	if len(b.Tags) > 0 {
		return familiar(b.Tags[0])
	}
	name := b.Dockerfile
	if name == "" {
		name = "-"
	}
	if b.Target != "" {
		name += " (" + b.Target + ")"
	}
	return name
}

// familiar is a tag as people write it.
func familiar(tag string) string {
	return strings.TrimPrefix(strings.TrimPrefix(tag, "docker.io/"), "library/")
}

// Status is how it has ended, with the code of the step that failed.
func (r *buildRow) Status() string {
	if r.State == api.BuildFailed && r.ExitCode != 0 {
		return fmt.Sprintf("%s (%d)", r.State, r.ExitCode)
	}
	return r.State
}

func (r *buildRow) Created() string {
	return units.HumanDuration(time.Since(r.CreatedAt)) + " ago"
}

func (r *buildRow) Duration() string { return duration(r.Took()) }

// Steps is how many there are, and how many of them were cached.
func (r *buildRow) Steps() string {
	if r.Cached > 0 {
		return fmt.Sprintf("%d (%d cached)", r.Total, r.Cached)
	}
	return strconv.Itoa(r.Total)
}

func (r *buildRow) Image() string {
	if r.short {
		return formatter.TruncateID(r.Build.Image)
	}
	return r.Build.Image
}

// duration is a time as people read it.
func duration(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	}
	return d.Round(time.Second).String()
}
