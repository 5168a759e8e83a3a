package networks

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

// NewNet returns "net" with the verbs that look into networks.
func NewNet(a *command.App) *cobra.Command {
	return command.Group(a, "net", "Look into networks", newCheck(a), newDNS(a), newDump(a, "dump"), newWho(a))
}

func newCheck(a *command.App) *cobra.Command {
	var list command.ListFlags
	cmd := &cobra.Command{
		Use:   "check [OPTIONS] CONTAINER|host HOST:PORT",
		Short: "Walk the way to a TCP port and tell where it ends",
		Long: `Walk the way from a container, or from the host, to a TCP port of a container, a name or an address: name,
route, interface, bridge, firewall, listener and a real connection. The exit code is 1 if the connection fails.`,
		Args: command.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			hops, err := c.NetworkCheck(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			done, err := list.JSON(a.Out, hops)
			if !done {
				err = printHops(a, hops)
			}
			if err == nil && (len(hops) == 0 || hops[len(hops)-1].State != "ok") {
				err = &command.StatusError{Code: 1}
			}
			return err
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	list.AddJSON(cmd.Flags())
	return cmd
}

func printHops(a *command.App, hops []api.Hop) error {
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	for _, h := range hops {
		// A container writes its hosts file, and names its interfaces.
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", h.Name, h.State, command.Visible(h.Detail))
		if h.Hint != "" {
			_, _ = fmt.Fprintf(w, "\t\thint: %s\n", command.Visible(h.Hint))
		}
	}
	return w.Flush()
}

type dnsOptions struct {
	command.ListFlags
	last int
}

func newDNS(a *command.App) *cobra.Command {
	o := dnsOptions{}
	cmd := &cobra.Command{
		Use:   "dns [OPTIONS] CONTAINER",
		Short: "List what names a container has asked for, and who has answered what",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd, a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().IntVarP(&o.last, "last", "n", 0, "Only the last ones")
	o.Add(cmd.Flags())
	return cmd
}

func (o *dnsOptions) run(cmd *cobra.Command, a *command.App, name string) error {
	if o.last < 0 {
		return errors.New("invalid argument: --last must not be negative")
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	names, err := c.Names(cmd.Context(), name)
	if err != nil {
		return err
	}
	if o.last > 0 {
		names.Queries = names.Queries[max(0, len(names.Queries)-o.last):]
	}
	if done, err := o.JSON(a.Out, names); done {
		return err
	}
	format := o.Or("")
	if format == formatter.TableFormatKey {
		printServers(a, names)
		format = `table {{.Time}}\t{{.Name}}\t{{.Type}}\t{{.Server}}\t{{.Code}}\t{{.Took}}\t{{.Answer}}`
	}
	rows := make([]formatter.SubContext, len(names.Queries))
	for n, q := range names.Queries {
		rows[n] = &queryRow{Query: q}
	}
	return command.WriteRows(a.Out, format, queryHeader(), rows)
}

// printServers tells who is asked for names that no network has.
func printServers(a *command.App, names api.Names) {
	switch {
	case !names.External:
		_, _ = fmt.Fprintln(a.Out, "Asks nobody outside: it is on internal networks only.")
	case len(names.Servers) == 0:
		_, _ = fmt.Fprintln(a.Out, "Asks nobody outside: the host has no name servers.")
	}
	for _, s := range names.Servers {
		where := "from the host"
		if s.Inside {
			where = "from the container"
		}
		_, _ = fmt.Fprintf(a.Out, "Asks %s (%s), %s.\n", s.Address, s.From, where)
	}
	if left := names.Total - uint64(len(names.Queries)); left > 0 {
		_, _ = fmt.Fprintf(a.Out, "%d earlier queries are not shown.\n", left)
	}
}

// queryRow is a query as templates see it.
type queryRow struct {
	formatter.HeaderContext
	api.Query
}

func queryHeader() *queryRow {
	return &queryRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Time": "TIME", "Name": "NAME", "Type": "TYPE", "Server": "SERVER", "Code": "CODE", "Took": "TOOK", "Answer": "ANSWER",
	}}}
}

// MarshalJSON is for the format "json".
func (r *queryRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *queryRow) Time() string   { return r.At.Local().Format("15:04:05.000") }
func (r *queryRow) Name() string   { return r.Query.Name }
func (r *queryRow) Type() string   { return r.Query.Type }
func (r *queryRow) Server() string { return r.Query.Server }
func (r *queryRow) Code() string   { return r.Query.Code }
func (r *queryRow) Took() string {
	return strconv.FormatFloat((time.Duration(r.Microseconds)*time.Microsecond).Seconds()*1000, 'f', 2, 64) + "ms"
}

// Answer is what was answered, or why nothing was.
func (r *queryRow) Answer() string {
	if r.Error != "" {
		return r.Error
	}
	return strings.Join(r.Answers, " ")
}
