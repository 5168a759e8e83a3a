package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

// runTree prints the processes of each container as a tree.
func (o *psOptions) runTree(ctx context.Context, a *command.App) error {
	if o.quiet || o.size || o.build || o.latest || o.last >= 0 || o.Format != "" {
		return errors.New("conflicting options: --tree takes only --all, --filter, --json and --no-trunc beside it")
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	list, err := c.Processes(ctx, client.ProcessesOptions{All: o.all, Filters: o.filter.Value()})
	if err != nil {
		return err
	}
	if done, err := o.JSON(a.Out, list); done {
		return err
	}
	return writeTrees(a.Out, list, !o.noTrunc)
}

// commandWidth is what a table has room for of a command line.
const commandWidth = 80

func writeTrees(out io.Writer, list []api.ContainerProcesses, short bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "CONTAINER\tPID\tHOST PID\tUSER\tSTATE\tCPU\tMEM\tCOMMAND")
	for _, c := range list {
		name := command.Visible(c.Name)
		if c.Status != "running" {
			name += " (" + c.Status + ")"
		}
		switch {
		case c.Unknown != "":
			_, _ = fmt.Fprintf(w, "%s\t?\t?\t\t\t\t\t%s\n", name, command.Visible(c.Unknown))
		case len(c.Processes) == 0:
			_, _ = fmt.Fprintf(w, "%s\t-\t-\t\t\t\t\t\n", name)
		}
		for _, p := range c.Processes {
			_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s%s\n", name, p.PID, p.HostPID, command.Visible(p.User), processState(&p),
				time.Duration(p.CPUMicroseconds)*time.Microsecond, units.BytesSize(float64(p.RSSBytes)), p.Stem, processCommand(&p, short))
			name = ""
		}
	}
	return w.Flush()
}

// processState is the letter of ps(1), and how many threads there are if several.
func processState(p *api.Process) string {
	if p.Threads > 1 {
		return p.State + " x" + strconv.Itoa(p.Threads)
	}
	return p.State
}

func processCommand(p *api.Process, short bool) string {
	text := strings.TrimSpace(command.Visible(p.Command))
	if short {
		text = formatter.Ellipsis(text, commandWidth)
	}
	if p.ExecID != "" {
		text += " [exec " + formatter.TruncateID(p.ExecID) + "]"
	}
	return text
}
