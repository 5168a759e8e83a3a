// Package networks has the verbs of the group "network", one file each.
package networks

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/network"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type listOptions struct {
	command.ListFlags
	quiet, noTrunc bool
	filter         opts.FilterOpt
}

func newList(a *command.App) *cobra.Command {
	o := listOptions{filter: opts.NewFilterOpt()}
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List networks",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), a)
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Only display network IDs")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
	o.Add(set)
	set.VarP(&o.filter, "filter", "f", `Provide filter values (e.g. "driver=bridge")`)
	return cmd
}

func (o *listOptions) run(ctx context.Context, a *command.App) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	res, err := c.NetworkList(ctx, mobyclient.NetworkListOptions{Filters: o.filter.Value()})
	if err != nil {
		return err
	}
	slices.SortFunc(res.Items, func(x, y network.Summary) int { return command.CompareNatural(x.Name, y.Name) })
	if done, err := o.JSON(a.Out, res.Items); done {
		return err
	}
	rows := make([]formatter.SubContext, len(res.Items))
	for n, item := range res.Items {
		rows[n] = &row{n: item, short: !o.noTrunc}
	}
	return command.WriteRows(a.Out, o.format(a), header(), rows)
}

func (o *listOptions) format(a *command.App) string {
	configured := a.Config().NetworksFormat
	if o.quiet {
		configured = ""
	}
	format := o.Or(configured)
	switch {
	case format == formatter.TableFormatKey && o.quiet:
		return formatter.DefaultQuietFormat
	case format == formatter.TableFormatKey:
		return `table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}`
	case format == formatter.RawFormatKey && o.quiet:
		return `network_id: {{.ID}}`
	case format == formatter.RawFormatKey:
		return `network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n`
	}
	return format
}

// row is a network as templates see it.
type row struct {
	formatter.HeaderContext
	n     network.Summary
	short bool
}

func header() *row {
	return &row{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6",
		"Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
	}}}
}

func (r *row) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *row) ID() string {
	if r.short {
		return formatter.TruncateID(r.n.ID)
	}
	return r.n.ID
}

func (r *row) Name() string             { return r.n.Name }
func (r *row) Driver() string           { return r.n.Driver }
func (r *row) Scope() string            { return r.n.Scope }
func (r *row) IPv4() string             { return strconv.FormatBool(r.n.EnableIPv4) }
func (r *row) IPv6() string             { return strconv.FormatBool(r.n.EnableIPv6) }
func (r *row) Internal() string         { return strconv.FormatBool(r.n.Internal) }
func (r *row) Label(name string) string { return r.n.Labels[name] }
func (r *row) CreatedAt() string        { return r.n.Created.String() }

func (r *row) Labels() string {
	var pairs []string
	for k, v := range r.n.Labels {
		pairs = append(pairs, k+"="+v)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}
