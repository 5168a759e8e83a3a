package images

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type rmiOptions struct {
	force, noPrune bool
	platforms      []string
}

// NewRmi returns "rmi".
func NewRmi(a *command.App) *cobra.Command {
	var o rmiOptions
	cmd := &cobra.Command{
		Use:   "rmi [OPTIONS] IMAGE [IMAGE...]",
		Short: "Remove one or more images",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args)
		},
		ValidArgsFunction:     a.CompleteImages(-1),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.force, "force", "f", false, "Force removal of the image")
	set.BoolVar(&o.noPrune, "no-prune", false, "Do not delete untagged parents")
	set.StringSliceVar(&o.platforms, "platform", nil,
		`Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	return command.Common(cmd, 0, "image rm", "image remove", "rmi")
}

func (o *rmiOptions) run(ctx context.Context, a *command.App, names []string) error {
	options := mobyclient.ImageRemoveOptions{Force: o.force, PruneChildren: !o.noPrune}
	for _, s := range o.platforms {
		p, err := platforms.Parse(s)
		if err != nil {
			return err
		}
		options.Platforms = append(options.Platforms, p)
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	var errs []error
	fatal := false
	for _, name := range names {
		res, err := c.ImageRemove(ctx, name, options)
		if err != nil {
			fatal = fatal || !errdefs.IsNotFound(err)
			errs = append(errs, err)
			continue
		}
		for _, item := range res.Items {
			if item.Deleted != "" {
				_, _ = fmt.Fprintln(a.Out, "Deleted:", item.Deleted)
				continue
			}
			_, _ = fmt.Fprintln(a.Out, "Untagged:", item.Untagged)
		}
	}
	joined := errors.Join(errs...)
	if joined != nil && o.force && !fatal {
		// An image that is not there is as good as removed.
		a.Report(joined)
		return nil
	}
	return joined
}
