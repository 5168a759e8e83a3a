package networks

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

func newWho(a *command.App) *cobra.Command {
	var list command.ListFlags
	cmd := &cobra.Command{
		Use:   "who [OPTIONS] CONTAINER[:PORT]",
		Short: "Tell who can reach the ports of a container, and why others cannot",
		Long: `Tell for each port that a running container listens on, or that is published, who can reach it and by which
address: the host, containers of its networks, other containers, other hosts. Nothing is connected to; to try a
way, see: porthole net check`,
		Args: command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return who(cmd.Context(), a, &list, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	list.Add(cmd.Flags())
	cmd.Flags().Lookup("json").Usage = "Print the daemon's answer as JSON, for machines"
	return cmd
}

func who(ctx context.Context, a *command.App, list *command.ListFlags, target string) error {
	name, text, named := strings.Cut(target, ":")
	var port uint64
	if named {
		var err error
		if port, err = strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
			return fmt.Errorf("invalid port: %q", text)
		}
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	r, err := c.Reach(ctx, name, uint16(port))
	if err != nil {
		return err
	}
	if done, err := list.JSON(a.Out, r); done {
		return err
	}
	if len(r.Ports) == 0 {
		return nobodyListens(name, port)
	}
	format := list.Or("")
	if format == formatter.TableFormatKey {
		format = `table {{.Port}}\t{{.From}}\t{{.Reached}}\t{{.By}}\t{{.Why}}`
	}
	var rows []formatter.SubContext
	for _, p := range r.Ports {
		for _, f := range p.From {
			rows = append(rows, &reachRow{port: p, from: f})
		}
	}
	if err := command.WriteRows(a.Out, format, reachHeader(), rows); err != nil {
		return err
	}
	if r.Note != "" {
		_, _ = fmt.Fprintln(a.Err, "note: "+r.Note)
	}
	return nil
}

func nobodyListens(name string, port uint64) error {
	if port != 0 {
		return fmt.Errorf("nobody listens on port %d of %s, and it is not published", port, name)
	}
	return fmt.Errorf("%s listens on no port, and none is published", name)
}

// reachRow is one way to a port as templates see it.
type reachRow struct {
	formatter.HeaderContext
	port api.ReachPort
	from api.ReachFrom
}

func reachHeader() *reachRow {
	return &reachRow{HeaderContext: formatter.HeaderContext{Header: formatter.SubHeaderContext{
		"Port": "PORT", "From": "FROM", "Reached": "REACHED", "By": "BY", "Why": "WHY", "Listens": "LISTENS",
	}}}
}

// MarshalJSON is for the format "json".
func (r *reachRow) MarshalJSON() ([]byte, error) { return formatter.MarshalJSON(r) }

func (r *reachRow) Port() string    { return r.port.Port }
func (r *reachRow) From() string    { return r.from.Who }
func (r *reachRow) Listens() string { return strings.Join(r.port.Listens, " ") }
func (r *reachRow) Why() string     { return r.from.Why }

// Reached is yes or no.
func (r *reachRow) Reached() string {
	if r.from.Reached {
		return "yes"
	}
	return "no"
}

// By is the addresses, or a dash.
func (r *reachRow) By() string {
	if len(r.from.By) == 0 {
		return "-"
	}
	return strings.Join(r.from.By, " ")
}
