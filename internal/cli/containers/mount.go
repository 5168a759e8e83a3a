package containers

import (
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

// NewMount returns "mount" with the verbs that mount into containers that run.
func NewMount(a *command.App) *cobra.Command {
	return command.Group(a, "mount", "Mount into containers while they run", newGraft(a), newGrafts(a), newUngraft(a))
}

func newGraft(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "graft CONTAINER SOURCE:DESTINATION[:ro]",
		Short: "Mount a directory or file of the host into a container that runs",
		Long: `Mount a directory or file of the host into a container that runs, with its owners mapped as by "run -v". It stays
until it is taken back or the container ends, and is not there again after a restart.`,
		Args: command.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := parseGraft(args[1])
			if err != nil {
				return err
			}
			c, err := a.Client()
			if err != nil {
				return err
			}
			g, err := c.Graft(cmd.Context(), args[0], o)
			if err == nil {
				_, err = fmt.Fprintln(a.Out, g.Destination)
			}
			return err
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
}

// parseGraft reads SOURCE:DESTINATION[:ro|:rw]. A source that begins with a dot is
// taken from the working directory, as by "run -v".
func parseGraft(spec string) (o client.GraftOptions, err error) {
	wrong := fmt.Errorf("invalid argument %q: want SOURCE:DESTINATION[:ro]", spec)
	parts := strings.Split(spec, ":")
	switch {
	case len(parts) == 3 && parts[2] == "ro":
		o.ReadOnly = true
	case len(parts) == 3 && parts[2] == "rw", len(parts) == 2:
	default:
		return o, wrong
	}
	o.Source, o.Destination = parts[0], parts[1]
	if o.Source == "" || o.Destination == "" {
		return o, wrong
	}
	if strings.HasPrefix(o.Source, ".") {
		o.Source, err = filepath.Abs(o.Source)
	}
	return o, err
}

func newUngraft(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:   "ungraft CONTAINER DESTINATION",
		Short: "Take back what was mounted into a container while it runs",
		Args:  command.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			if err := c.Ungraft(cmd.Context(), args[0], args[1]); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, args[1])
			return err
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
}

func newGrafts(a *command.App) *cobra.Command {
	var list command.ListFlags
	cmd := &cobra.Command{
		Use:   "ls [OPTIONS] CONTAINER",
		Short: "List what was mounted into a container while it runs",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			grafts, err := c.Grafts(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if done, err := list.JSON(a.Out, grafts); done {
				return err
			}
			w := tabwriter.NewWriter(a.Out, 0, 0, 3, ' ', 0)
			_, _ = fmt.Fprintln(w, "DESTINATION\tSOURCE\tMODE\tSINCE")
			for _, g := range grafts {
				mode := "rw"
				if g.ReadOnly {
					mode = "ro"
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s ago\n", command.Visible(g.Destination), command.Visible(g.Source), mode, units.HumanDuration(time.Since(g.Since)))
			}
			return w.Flush()
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	list.AddJSON(cmd.Flags())
	return cmd
}
