package images

import (
	"context"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/registry"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type searchOptions struct {
	format  string
	limit   int
	noTrunc bool
	filter  opts.FilterOpt
}

// NewSearch returns "search".
func NewSearch(a *command.App) *cobra.Command {
	o := searchOptions{filter: opts.NewFilterOpt()}
	cmd := &cobra.Command{
		Use:   "search [OPTIONS] TERM",
		Short: "Search Docker Hub for images",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	set.VarP(&o.filter, "filter", "f", "Filter output based on conditions provided")
	set.IntVar(&o.limit, "limit", 0, "Max number of search results")
	set.StringVar(&o.format, "format", "", "Pretty-print search using a Go template")
	return command.Top(cmd, 10)
}

func (o *searchOptions) run(ctx context.Context, a *command.App, term string) error {
	auth := ""
	if ref, err := reference.ParseNormalizedNamed(strings.TrimSuffix(term, "/")); err == nil {
		if auth, err = Credentials(a, ref); err != nil {
			return err
		}
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	res, err := c.ImageSearch(ctx, term, mobyclient.ImageSearchOptions{RegistryAuth: auth, Filters: o.filter.Value(), Limit: o.limit})
	if err != nil {
		return err
	}
	rows := make([]formatter.SubContext, len(res.Items))
	for n, item := range res.Items {
		rows[n] = &searchRow{item: item, short: !o.noTrunc}
	}
	format := o.format
	if format == "" || format == formatter.TableFormatKey {
		format = `table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}`
	}
	return command.WriteRows(a.Out, format, &searchRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL",
	}}}, rows)
}

// searchRow is a result as templates see it.
type searchRow struct {
	formatter.HeaderContext
	item  registry.SearchResult
	short bool
}

func (r *searchRow) MarshalJSON() ([]byte, error) {
	r.Header = nil
	return formatter.MarshalJSON(r)
}

func (r *searchRow) Name() string { return r.item.Name }

func (r *searchRow) Description() string {
	text := strings.NewReplacer("\n", " ", "\r", " ").Replace(r.item.Description)
	if r.short {
		return formatter.Ellipsis(text, 45)
	}
	return text
}

func (r *searchRow) StarCount() string { return strconv.Itoa(r.item.StarCount) }

func (r *searchRow) IsOfficial() string {
	if r.item.IsOfficial {
		return "[OK]"
	}
	return ""
}
