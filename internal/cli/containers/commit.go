package containers

import (
	"errors"
	"fmt"

	"github.com/docker/cli/opts"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewCommit returns "commit".
func NewCommit(a *command.App) *cobra.Command {
	var o mobyclient.ContainerCommitOptions
	var pause bool
	changes := opts.NewListOpts(nil)
	cmd := &cobra.Command{
		Use:   "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
		Short: "Create a new image from a container's changes",
		Args:  command.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("pause") {
				if cmd.Flags().Changed("no-pause") {
					return errors.New("conflicting options: --no-pause and --pause cannot be used together")
				}
				o.NoPause = !pause
			}
			if len(args) > 1 {
				o.Reference = args[1]
			}
			o.Changes = changes.GetSlice()
			c, err := a.Client()
			if err != nil {
				return err
			}
			res, err := c.ContainerCommit(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintln(a.Out, res.ID)
			return nil
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Any),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.SetInterspersed(false)
	set.BoolVarP(&pause, "pause", "p", true, "Pause container during commit")
	set.BoolVar(&o.NoPause, "no-pause", false, "Disable pausing container during commit")
	set.StringVarP(&o.Comment, "message", "m", "", "Commit message")
	set.StringVarP(&o.Author, "author", "a", "", `Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")`)
	set.VarP(&changes, "change", "c", "Apply Dockerfile instruction to the created image")
	return command.Common(cmd, 0, "container commit", "commit")
}
