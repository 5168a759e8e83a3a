package system

import (
	"context"
	"fmt"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

type whoisOptions struct {
	command.ListFlags
	quiet, noTrunc bool
}

// NewWhois returns "whois".
func NewWhois(a *command.App) *cobra.Command {
	o := whoisOptions{}
	cmd := &cobra.Command{
		Use:   "whois [OPTIONS] PID|PORT|ADDRESS|INTERFACE|PATH",
		Short: "Tell which container a process, port, address, interface or path belongs to",
		Long: `Tell which container something of the host belongs to, or what else it is.

  PID        5802               a process of the host, also of an exec, a build step or a shim
  PORT       :8080, 8080/udp    published, forwarded, listened on inside, or held by the host
  ADDRESS    10.91.0.2, MAC     of a container, a network or the host; with a port: ADDRESS:PORT
  INTERFACE  veth3c9a, br-1f2e  of the host
  PATH       /any/path          mounted, a volume, a layer, a control group, a namespace`,
		Args: command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		// What is asked for is at hand from elsewhere; paths are completed by the shell.
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Only display names of containers")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate the output")
	o.Add(set)
	set.Lookup("json").Usage = "Print the daemon's answer as JSON, for machines"
	return cmd
}

func (o *whoisOptions) run(ctx context.Context, a *command.App, what string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	answer, err := c.Whois(ctx, what)
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, answer); done {
		return err
	}
	format := o.Or("")
	switch {
	case o.quiet && o.Format == "":
		seen := map[string]bool{}
		for _, f := range answer.Found {
			if f.Kind == "container" && f.Name != "" && !seen[f.Name] {
				seen[f.Name] = true
				_, _ = fmt.Fprintln(a.Out, f.Name)
			}
		}
		return nil
	case format == formatter.TableFormatKey:
		format = `table {{.Kind}}\t{{.Name}}\t{{.ID}}\t{{.Status}}\t{{.Detail}}`
	}
	rows := make([]formatter.SubContext, len(answer.Found))
	for n, f := range answer.Found {
		rows[n] = &ownerRow{Owner: f, short: !o.noTrunc}
	}
	return command.WriteRows(a.Out, format, ownerHeader(), rows)
}

// ownerRow is an owner as templates see it.
type ownerRow struct {
	formatter.HeaderContext
	api.Owner
	short bool
}

func ownerHeader() *ownerRow {
	return &ownerRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Kind": "OWNER", "Name": "NAME", "ID": "ID", "Status": "STATUS", "Detail": "WHAT", "Image": "IMAGE", "Pid": "PID",
		"PidInside": "PID INSIDE", "Command": "COMMAND",
	}}}
}

// MarshalJSON is for the format "json".
func (r *ownerRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *ownerRow) Kind() string    { return r.Owner.Kind }
func (r *ownerRow) Name() string    { return dash(command.Visible(r.Owner.Name)) }
func (r *ownerRow) Status() string  { return dash(r.Owner.Status) }
func (r *ownerRow) Detail() string  { return command.Visible(r.Owner.Detail) }
func (r *ownerRow) Image() string   { return dash(command.Visible(r.Owner.Image)) }
func (r *ownerRow) Pid() int        { return r.Owner.Pid }
func (r *ownerRow) PidInside() int  { return r.Owner.PidInside }
func (r *ownerRow) Command() string { return command.Visible(r.Owner.Command) }

// ID is shortened as everywhere.
func (r *ownerRow) ID() string {
	if r.short {
		return dash(formatter.TruncateID(r.Owner.ID))
	}
	return dash(r.Owner.ID)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
