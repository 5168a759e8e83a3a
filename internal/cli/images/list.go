package images

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/opts"
	"github.com/moby/moby/api/types/image"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

type listOptions struct {
	command.ListFlags
	quiet, all, noTrunc, digests, tree bool
	filter                             opts.FilterOpt
}

// NewImages returns "images".
func NewImages(a *command.App) *cobra.Command {
	o := listOptions{filter: opts.NewFilterOpt()}
	cmd := &cobra.Command{
		Use:   "images [OPTIONS] [REPOSITORY[:TAG]]",
		Short: "List images",
		Args:  command.MaxArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			match := ""
			if len(args) > 0 {
				match = args[0]
			}
			found, err := o.run(cmd.Context(), a, match)
			if err == nil && found == 0 && match != "" && cmd.CalledAs() == "images" {
				warnAmbiguous(a, match)
			}
			return err
		},
		ValidArgsFunction:     a.CompleteImages(1),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.quiet, "quiet", "q", false, "Only show image IDs")
	set.BoolVarP(&o.all, "all", "a", false, "Show all images (default hides intermediate images)")
	set.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	set.BoolVar(&o.digests, "digests", false, "Show digests")
	set.BoolVar(&o.tree, "tree", false, "List multi-platform images as a tree (EXPERIMENTAL)")
	o.Add(set)
	set.VarP(&o.filter, "filter", "f", "Filter output based on conditions provided")
	return command.Common(cmd, 7, "image ls", "image list", "images")
}

func (o *listOptions) run(ctx context.Context, a *command.App, match string) (found int, err error) {
	if o.tree {
		if err := o.checkTree(); err != nil {
			return 0, err
		}
	}
	filter := o.filter.Value()
	if match != "" {
		filter.Add("reference", match)
	}
	c, err := a.Client()
	if err != nil {
		return 0, err
	}
	res, err := c.ImageList(ctx, mobyclient.ImageListOptions{All: o.all, Filters: filter, Manifests: o.tree})
	if err != nil {
		return 0, err
	}
	if done, err := o.JSON(a.Out, res.Items); done {
		return len(res.Items), err
	}
	if o.tree {
		if !o.all {
			res.Items = slices.DeleteFunc(res.Items, func(i image.Summary) bool { return len(i.RepoTags) == 0 })
		}
		return len(res.Items), writeTree(a.Out, res.Items)
	}
	format := o.Format
	if format == "" {
		format = formatter.TableFormatKey
		if configured := a.Config().ImagesFormat; configured != "" && !o.quiet {
			format = configured
		}
	}
	return len(res.Items), formatter.ImageWrite(formatter.ImageContext{
		Context: formatter.Context{
			Output: command.TableWriter(a.Out, format),
			Format: formatter.NewImageFormat(format, o.quiet, o.digests),
			Trunc:  !o.noTrunc,
		},
		Digest: o.digests,
	}, res.Items)
}

// checkTree refuses what a tree does not go with.
func (o *listOptions) checkTree() error {
	for _, other := range []struct {
		flag string
		set  bool
	}{{"quiet", o.quiet}, {"no-trunc", o.noTrunc}, {"digests", o.digests}, {"format", o.Format != ""}} {
		if other.set {
			return fmt.Errorf("--%s is not yet supported with --tree", other.flag)
		}
	}
	return nil
}

// warnAmbiguous helps those who typed "images ls" for "image ls".
func warnAmbiguous(a *command.App, match string) {
	if strings.ContainsAny(match, ".:/") {
		return
	}
	if slices.Contains([]string{"build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag"}, match) {
		_, _ = fmt.Fprintf(a.Err, "\nNo images found matching %q: did you mean \"porthole image %[1]s\"?\n", match)
		return
	}
}
