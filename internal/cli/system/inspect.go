// Package system has the verbs that concern the daemon as a whole or objects
// of any kind, one file each.
package system

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type inspectOptions struct {
	format, kind string
	size         bool
	isolation    bool
}

// kind is a kind of object, as --type names them.
type kind struct {
	name  string
	fetch func(ctx context.Context, c *client.Client, name string, size bool) (command.Object, error)
}

// kinds lists what can be inspected, in the order in which a name is looked
// for.
var kinds = []kind{
	{"container", command.ContainerObject},
	{"image", func(ctx context.Context, c *client.Client, name string, _ bool) (command.Object, error) {
		return command.ImageObject(ctx, c, name)
	}},
	{"network", func(ctx context.Context, c *client.Client, name string, _ bool) (command.Object, error) {
		return command.NetworkObject(ctx, c, name, mobyclient.NetworkInspectOptions{})
	}},
	{"volume", func(ctx context.Context, c *client.Client, name string, _ bool) (command.Object, error) {
		return command.VolumeObject(ctx, c, name)
	}},
	{"plugin", func(ctx context.Context, c *client.Client, name string, _ bool) (command.Object, error) {
		res, err := c.PluginInspect(ctx, name, mobyclient.PluginInspectOptions{})
		return command.Object{Value: command.Value(res.Plugin), Raw: res.Raw}, err
	}},
}

// allKinds are those that --type takes. The ones that only a cluster has are
// known, so that the daemon can answer for itself.
var allKinds = []string{"config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume"}

// NewInspect returns "inspect" for objects of any kind.
func NewInspect(a *command.App) *cobra.Command {
	var o inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] NAME|ID [NAME|ID...]",
		Short: "Return low-level information on Porthole objects",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("type") && o.kind == "" {
				return fmt.Errorf(`type is empty: must be one of "%s"`, strings.Join(allKinds, `", "`))
			}
			return o.run(cmd.Context(), a, args)
		},
		ValidArgsFunction:     a.CompleteAll(),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.StringVarP(&o.format, "format", "f", "", command.InspectFormatHelp)
	set.StringVar(&o.kind, "type", "", "Only inspect objects of the given type")
	set.BoolVarP(&o.size, "size", "s", false, "Display total file sizes if the type is container")
	set.BoolVar(&o.isolation, "isolation", false, "Show how containers are kept apart from the host, with limits, mounts and the start, step by step")
	cmd.MarkFlagsMutuallyExclusive("isolation", "type")
	cmd.MarkFlagsMutuallyExclusive("isolation", "size")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(allKinds, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (o *inspectOptions) run(ctx context.Context, a *command.App, names []string) error {
	if o.kind != "" && !slices.Contains(allKinds, o.kind) {
		return fmt.Errorf(`unknown type: %q: must be one of "%s"`, o.kind, strings.Join(allKinds, `", "`))
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	if o.isolation && o.format == "" {
		return isolationText(ctx, a, c, names)
	}
	return a.Inspect(names, o.format, func(name string) (command.Object, error) {
		if o.isolation {
			return isolationObject(ctx, c, name)
		}
		if o.kind != "" {
			return o.fetchKind(ctx, a, c, name)
		}
		return o.search(ctx, a, c, name)
	})
}

// fetchKind fetches an object of the kind that was asked for.
func (o *inspectOptions) fetchKind(ctx context.Context, a *command.App, c *client.Client, name string) (command.Object, error) {
	for _, k := range kinds {
		if k.name == o.kind {
			obj, err := k.fetch(ctx, c, name, o.size)
			if err == nil {
				o.warnSize(a, k)
			}
			return obj, err
		}
	}
	return clusterObject(ctx, c, o.kind, name)
}

// search fetches the first object that has the name.
func (o *inspectOptions) search(ctx context.Context, a *command.App, c *client.Client, name string) (command.Object, error) {
	for _, k := range kinds {
		obj, err := k.fetch(ctx, c, name, o.size)
		if err != nil && absent(err) {
			continue
		}
		if err == nil {
			o.warnSize(a, k)
		}
		return obj, err
	}
	return command.Object{}, fmt.Errorf("error: no such object: %s", name)
}

func (o *inspectOptions) warnSize(a *command.App, k kind) {
	if o.size && k.name != "container" {
		_, _ = fmt.Fprintln(a.Err, "WARNING: --size ignored for", k.name)
	}
}

// absent tells whether a lookup failed because there is no such object, or no
// such kind of object.
func absent(err error) bool {
	return errdefs.IsNotFound(err) || errdefs.IsNotImplemented(err) ||
		strings.Contains(err.Error(), "not supported") || strings.Contains(err.Error(), "invalid reference format")
}

// clusterObject fetches an object that only a swarm has.
func clusterObject(ctx context.Context, c *client.Client, kind, name string) (command.Object, error) {
	switch kind {
	case "node":
		res, err := c.NodeInspect(ctx, name, mobyclient.NodeInspectOptions{})
		return command.Object{Value: command.Value(res.Node), Raw: res.Raw}, err
	case "service":
		res, err := c.ServiceInspect(ctx, name, mobyclient.ServiceInspectOptions{InsertDefaults: true})
		return command.Object{Value: command.Value(res.Service), Raw: res.Raw}, err
	case "task":
		res, err := c.TaskInspect(ctx, name, mobyclient.TaskInspectOptions{})
		return command.Object{Value: command.Value(res.Task), Raw: res.Raw}, err
	case "secret":
		res, err := c.SecretInspect(ctx, name, mobyclient.SecretInspectOptions{})
		return command.Object{Value: command.Value(res.Secret), Raw: res.Raw}, err
	default:
		res, err := c.ConfigInspect(ctx, name, mobyclient.ConfigInspectOptions{})
		return command.Object{Value: command.Value(res.Config), Raw: res.Raw}, err
	}
}
