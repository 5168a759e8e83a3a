package containers

import (
	"context"
	"errors"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

// onceOptions are the flags of start that are about a single run.
type onceOptions struct {
	once, tty bool
	cmd       string
}

func (o *onceOptions) add(set *pflag.FlagSet) {
	set.BoolVar(&o.once, "once", false, "Start attached and without the restart policy, and leave the configuration as it is")
	set.StringVar(&o.cmd, "cmd", "", "With --once: run this by /bin/sh -c in place of the container's own command")
	set.BoolVarP(&o.tty, "tty", "t", false, "With --once: allocate a pseudo-TTY")
}

func (o *onceOptions) check(names []string) error {
	switch {
	case !o.once && (o.cmd != "" || o.tty):
		return errors.New("conflicting options: --cmd and --tty are for --once")
	case o.once && len(names) > 1:
		return errors.New("you cannot start multiple containers once")
	}
	return nil
}

// prepare makes a container ready for the run, and ctr what it is in that. The
// result starts it.
func (o *onceOptions) prepare(ctx context.Context, a *command.App, c *client.Client, ctr *container.InspectResponse, stdin bool) (func(context.Context) error, error) {
	if err := a.Check(stdin, o.tty); err != nil {
		return nil, err
	}
	req := api.OnceRequest{TTY: o.tty, Stdin: stdin}
	if o.cmd != "" {
		req.Command = []string{"/bin/sh", "-c", o.cmd}
	}
	token, err := c.Once(ctx, ctr.ID, req)
	if err != nil {
		return nil, err
	}
	config := *ctr.Config
	config.Tty, config.OpenStdin = o.tty, stdin
	ctr.Config = &config
	return func(ctx context.Context) error { return c.StartOnce(ctx, ctr.ID, token) }, nil
}
