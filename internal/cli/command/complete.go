package command

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/client"
)

// completionTimeout bounds how long a shell waits for names.
const completionTimeout = 2 * time.Second

// States selects the containers that a verb can work on.
type States []container.ContainerState

// The selections of the verbs.
var (
	Any     States
	Running = States{container.StateRunning}
	Paused  = States{container.StatePaused}
	Stopped = States{container.StateExited, container.StateCreated}
)

func (s States) include(state container.ContainerState) bool {
	if slices.Contains(s, state) {
		return true
	}
	return len(s) == 0
}

// completer makes a completion function for up to limit arguments (any number
// if negative) from a function that lists the names.
func (a *App) completer(limit int, names func(ctx context.Context, c *client.Client) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if limit >= 0 && len(args) >= limit {
			return nil, cobra.ShellCompDirectiveDefault
		}
		c, err := a.Client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		all, err := names(ctx, c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return without(all, args), cobra.ShellCompDirectiveNoFileComp
	}
}

// without leaves out what is on the command line already.
func without(names, used []string) []string {
	seen := map[string]bool{}
	for _, u := range used {
		seen[u] = true
	}
	var out []string
	for _, n := range names {
		if !seen[n] {
			out = append(out, n)
		}
	}
	return out
}

// CompleteContainers completes names of containers in the given states.
func (a *App) CompleteContainers(limit int, states States) cobra.CompletionFunc {
	return a.completer(limit, func(ctx context.Context, c *client.Client) ([]string, error) {
		res, err := c.ContainerList(ctx, mobyclient.ContainerListOptions{All: true})
		var names []string
		for _, ctr := range res.Items {
			if !states.include(ctr.State) {
				continue
			}
			for _, name := range ctr.Names {
				names = append(names, strings.TrimPrefix(name, "/"))
			}
		}
		return names, err
	})
}

// CompleteImages completes references of images.
func (a *App) CompleteImages(limit int) cobra.CompletionFunc {
	return a.completer(limit, func(ctx context.Context, c *client.Client) ([]string, error) {
		res, err := c.ImageList(ctx, mobyclient.ImageListOptions{})
		var names []string
		for _, img := range res.Items {
			for _, tag := range img.RepoTags {
				names = append(names, tag)
				if base, isLatest := strings.CutSuffix(tag, ":latest"); isLatest {
					names = append(names, base)
				}
			}
		}
		return names, err
	})
}

// CompleteBuilds completes IDs of builds that are recorded.
func (a *App) CompleteBuilds(limit int) cobra.CompletionFunc {
	return a.completer(limit, func(ctx context.Context, c *client.Client) ([]string, error) {
		list, err := c.Builds(ctx, 0)
		names := []string{"last"}
		for _, b := range list {
			names = append(names, b.ID)
		}
		return names, err
	})
}

// CompleteCores completes IDs of cores that are kept.
func (a *App) CompleteCores(limit int) cobra.CompletionFunc {
	return a.completer(limit, func(ctx context.Context, c *client.Client) ([]string, error) {
		list, err := c.Cores(ctx, "")
		var names []string
		for _, core := range list {
			names = append(names, core.ID)
		}
		return names, err
	})
}

// CompleteNetworks completes names of networks.
func (a *App) CompleteNetworks(limit int) cobra.CompletionFunc {
	return a.completer(limit, func(ctx context.Context, c *client.Client) ([]string, error) {
		res, err := c.NetworkList(ctx, mobyclient.NetworkListOptions{})
		var names []string
		for _, n := range res.Items {
			names = append(names, n.Name)
		}
		return names, err
	})
}

// CompleteVolumes completes names of volumes.
func (a *App) CompleteVolumes(limit int) cobra.CompletionFunc {
	return a.completer(limit, func(ctx context.Context, c *client.Client) ([]string, error) {
		res, err := c.VolumeList(ctx, mobyclient.VolumeListOptions{})
		var names []string
		for _, v := range res.Items {
			names = append(names, v.Name)
		}
		return names, err
	})
}

// CompleteAll completes names of containers, images, networks and volumes.
func (a *App) CompleteAll() cobra.CompletionFunc {
	sources := []cobra.CompletionFunc{
		a.CompleteContainers(-1, Any), a.CompleteImages(-1), a.CompleteNetworks(-1), a.CompleteVolumes(-1),
	}
	return func(cmd *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
		var all []string
		for _, source := range sources {
			names, _ := source(cmd, args, part)
			all = append(all, names...)
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}
