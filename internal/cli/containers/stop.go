package containers

import (
	"context"
	"errors"

	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/internal/cli/command"
)

// stopOptions are those of stop and restart.
type stopOptions struct {
	signal  string
	timeout int
	set     *pflag.FlagSet
}

func (o *stopOptions) addFlags(set *pflag.FlagSet) {
	o.set = set
	set.StringVarP(&o.signal, "signal", "s", "", "Signal to send to the container")
	set.IntVarP(&o.timeout, "timeout", "t", 0, "Seconds to wait before killing the container")
	set.IntVar(&o.timeout, "time", 0, "Seconds to wait before killing the container (deprecated: use --timeout)")
	_ = set.MarkDeprecated("time", "use --timeout instead")
}

// seconds returns nil when the container's own time is to be used.
func (o *stopOptions) seconds() (*int, error) {
	long, old := o.set.Changed("timeout"), o.set.Changed("time")
	if long && old {
		return nil, errors.New("conflicting options: cannot specify both --timeout and --time")
	}
	if long || old {
		return &o.timeout, nil
	}
	return nil, nil
}

// NewStop returns "stop".
func NewStop(a *command.App) *cobra.Command {
	var o stopOptions
	cmd := &cobra.Command{
		Use:   "stop [OPTIONS] CONTAINER [CONTAINER...]",
		Short: "Stop one or more running containers",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.stop(cmd.Context(), a, args)
		},
		ValidArgsFunction:     a.CompleteContainers(-1, command.Running),
		DisableFlagsInUseLine: true,
	}
	o.addFlags(cmd.Flags())
	completeSignals(cmd)
	return command.Common(cmd, 0, "container stop", "stop")
}

func (o *stopOptions) stop(ctx context.Context, a *command.App, names []string) error {
	timeout, err := o.seconds()
	if err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	return a.Each(ctx, names, func(ctx context.Context, name string) error {
		_, err := c.ContainerStop(ctx, name, mobyclient.ContainerStopOptions{Signal: o.signal, Timeout: timeout})
		return err
	}, nil)
}
