package containers

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/cli/command"
)

// execSessions are the flags of exec that are about execs which run.
type execSessions struct {
	list, kill bool
	signal     string
	output     command.ListFlags
}

func (s *execSessions) add(set *pflag.FlagSet) {
	set.BoolVar(&s.list, "list", false, "List the commands that run in CONTAINER by exec")
	set.BoolVar(&s.kill, "kill", false, "Kill such commands, by EXEC ID")
	set.StringVar(&s.signal, "signal", "", "Send a signal to such commands, by EXEC ID")
	s.output.AddJSON(set)
}

func (s *execSessions) asked() bool { return s.list || s.kill || s.signal != "" }

// args returns the check of the arguments; nil if nothing of this is asked for.
func (s *execSessions) args() cobra.PositionalArgs {
	switch {
	case s.list:
		return command.ExactArgs(1)
	case s.asked():
		return command.MinArgs(1)
	}
	return nil
}

func (s *execSessions) run(ctx context.Context, a *command.App, args []string) error {
	if s.list && (s.kill || s.signal != "") || s.kill && s.signal != "" {
		return errors.New("conflicting options: cannot specify more than one of --list, --kill and --signal")
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	if s.list {
		list, err := c.Execs(ctx, args[0])
		if err != nil {
			return err
		}
		if done, err := s.output.JSON(a.Out, list); done {
			return err
		}
		return writeExecs(a, list)
	}
	return a.InTurn(ctx, args, func(ctx context.Context, id string) error {
		_, err := c.ExecSignal(ctx, id, s.signal)
		return err
	})
}

func writeExecs(a *command.App, list []api.Exec) error {
	w := tabwriter.NewWriter(a.Out, 10, 1, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "EXEC ID\tPID\tUSER\tCOMMAND\tSTARTED\tTTY\tCLIENT")
	for _, x := range list {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%t\t%s\n", formatter.TruncateID(x.ID), x.PID, x.User, execCommand(x.Command),
			units.HumanDuration(time.Since(x.StartedAt))+" ago", x.TTY, execClient(&x))
	}
	return w.Flush()
}

// widestCommand is as long as ps shows them.
const widestCommand = 20

func execCommand(argv []string) string {
	return `"` + formatter.Ellipsis(strings.Join(argv, " "), widestCommand) + `"`
}

// execClient tells who has started an exec and whether they are still there.
func execClient(x *api.Exec) string {
	text := "unknown"
	if c := x.Client; c != nil {
		switch {
		case len(c.Command) > 0:
			text = fmt.Sprintf("%s (pid %d)", filepath.Base(c.Command[0]), c.PID)
		case c.PID != 0:
			text = fmt.Sprintf("pid %d", c.PID)
		case c.Address != "":
			text = c.Address
		}
	}
	switch {
	case !x.Attached:
		return text + ", gone"
	case x.DieWithClient:
		return text + ", ends with it"
	}
	return text
}
