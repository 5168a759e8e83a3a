package images

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/image"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type historyOptions struct {
	command.ListFlags
	human, quiet, noTrunc bool
	platform              string
}

// NewHistory returns "history".
func NewHistory(a *command.App) *cobra.Command {
	var o historyOptions
	cmd := &cobra.Command{
		Use:   "history [OPTIONS] IMAGE",
		Short: "Show the history of an image",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteImages(1),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.human, "human", "H", true, "Print sizes and dates in human readable format")
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Only show image IDs")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	o.Add(set)
	set.StringVar(&o.platform, "platform", "",
		`Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	return command.Common(cmd, 0, "image history", "history")
}

func (o *historyOptions) run(ctx context.Context, a *command.App, name string) error {
	var options []mobyclient.ImageHistoryOption
	if o.platform != "" {
		p, err := platforms.Parse(o.platform)
		if err != nil {
			return fmt.Errorf("invalid platform: %w", err)
		}
		options = append(options, mobyclient.ImageHistoryWithPlatform(p))
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	res, err := c.ImageHistory(ctx, name, options...)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, res.Items); done {
		return err
	}
	rows := make([]formatter.SubContext, len(res.Items))
	for n, item := range res.Items {
		rows[n] = &historyRow{item: item, human: o.human, short: !o.noTrunc}
	}
	return command.WriteRows(a.Out, o.format(), historyHeader(), rows)
}

func (o *historyOptions) format() string {
	switch format := o.Or(""); {
	case format != formatter.TableFormatKey:
		return format
	case o.quiet:
		return formatter.DefaultQuietFormat
	case !o.human:
		return `table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`
	}
	return `table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`
}

// historyRow is a layer as templates see it.
type historyRow struct {
	formatter.HeaderContext
	item         image.HistoryResponseItem
	human, short bool
}

func historyHeader() *historyRow {
	return &historyRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY",
		"Size": "SIZE", "Comment": "COMMENT",
	}}}
}

func (r *historyRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *historyRow) ID() string {
	if r.short {
		return formatter.TruncateID(r.item.ID)
	}
	return r.item.ID
}

func (r *historyRow) CreatedAt() string { return time.Unix(r.item.Created, 0).Format(time.RFC3339) }

// plausible is the time before which no image was made: reproducible builds
// set the time to zero, for which "56 years ago" would be no help.
var plausible = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (r *historyRow) CreatedSince() string {
	created := time.Unix(r.item.Created, 0)
	switch {
	case !r.human:
		return r.CreatedAt()
	case !created.After(plausible):
		return "N/A"
	}
	return units.HumanDuration(time.Since(created)) + " ago"
}

func (r *historyRow) CreatedBy() string {
	by := strings.ReplaceAll(r.item.CreatedBy, "\t", " ")
	if r.short {
		return formatter.Ellipsis(by, 45)
	}
	return by
}

func (r *historyRow) Size() string {
	if r.human {
		return units.HumanSizeWithPrecision(float64(r.item.Size), 3)
	}
	return strconv.FormatInt(r.item.Size, 10)
}

func (r *historyRow) Comment() string { return r.item.Comment }
