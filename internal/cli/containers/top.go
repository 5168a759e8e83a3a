package containers

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewTop returns "top".
func NewTop(a *command.App) *cobra.Command {
	var nspid bool
	cmd := &cobra.Command{
		Use:   "top CONTAINER [ps OPTIONS]",
		Short: "Display the running processes of a container",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			psArgs := args[1:]
			if nspid {
				// An option of our daemon's ps, which Docker's would refuse.
				psArgs = append(psArgs, "--nspid")
			}
			return top(cmd.Context(), a, args[0], psArgs)
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().BoolVar(&nspid, "nspid", false, "Show pids as in the container beside those of the host")
	return command.Common(cmd, 0, "container top", "top")
}

func top(ctx context.Context, a *command.App, name string, psArgs []string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	list, err := c.ContainerTop(ctx, name, mobyclient.ContainerTopOptions{Arguments: psArgs})
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.Out, 20, 1, 3, ' ', 0)
	for _, row := range append([][]string{list.Titles}, list.Processes...) {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}
