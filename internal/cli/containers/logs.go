package containers

import (
	"context"
	"io"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/tty"
)

// NewLogs returns "logs".
func NewLogs(a *command.App) *cobra.Command {
	o := mobyclient.ContainerLogsOptions{ShowStdout: true, ShowStderr: true}
	cmd := &cobra.Command{
		Use:   "logs [OPTIONS] CONTAINER",
		Short: "Fetch the logs of a container",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return printLogs(cmd.Context(), a, args[0], o)
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Any),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.Follow, "follow", "f", false, "Follow log output")
	set.StringVar(&o.Since, "since", "",
		`Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	set.StringVar(&o.Until, "until", "",
		`Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	set.BoolVarP(&o.Timestamps, "timestamps", "t", false, "Show timestamps")
	set.BoolVar(&o.Details, "details", false, "Show extra details provided to logs")
	set.StringVarP(&o.Tail, "tail", "n", "all", "Number of lines to show from the end of the logs")
	return command.Common(cmd, 0, "container logs", "logs")
}

func printLogs(ctx context.Context, a *command.App, name string, o mobyclient.ContainerLogsOptions) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	info, err := c.ContainerInspect(ctx, name, mobyclient.ContainerInspectOptions{})
	if err != nil {
		return err
	}
	stream, err := c.ContainerLogs(ctx, info.Container.ID, o)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	if info.Container.Config.Tty {
		_, err = io.Copy(a.Out, stream)
		return err
	}
	return tty.Demux(a.Out, a.Err, stream)
}
