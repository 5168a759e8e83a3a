package containers

import (
	"context"
	"errors"

	"github.com/moby/moby/api/types/container"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
)

type attachOptions struct {
	noStdin, sigProxy bool
	// look leaves the container's terminal as it is.
	look       bool
	detachKeys string
}

// NewWatch returns "watch".
func NewWatch(a *command.App) *cobra.Command {
	o := attachOptions{noStdin: true, look: true}
	cmd := &cobra.Command{
		Use:   "watch CONTAINER",
		Short: "Watch what a running container prints, and touch nothing: Ctrl-C ends only the watching",
		Long: `Watch what a running container prints, from now until it ends. Unlike "attach", nothing that is typed gets there, no
signal is passed on, and its terminal keeps its size: Ctrl-C ends only the watching. What was printed before is in "logs".`,
		Args: command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	return command.Common(cmd, 0, "container watch", "watch")
}

// NewAttach returns "attach".
func NewAttach(a *command.App) *cobra.Command {
	var o attachOptions
	cmd := &cobra.Command{
		Use:   "attach [OPTIONS] CONTAINER",
		Short: "Attach local standard input, output, and error streams to a running container",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), a, args[0])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().BoolVar(&o.noStdin, "no-stdin", false, "Do not attach STDIN")
	cmd.Flags().BoolVar(&o.sigProxy, "sig-proxy", true, "Proxy all received signals to the process")
	cmd.Flags().StringVar(&o.detachKeys, "detach-keys", "", "Override the key sequence for detaching a container")
	return command.Common(cmd, 0, "container attach", "attach")
}

func (o *attachOptions) run(ctx context.Context, a *command.App, name string) error {
	keys, err := detachKeys(a, o.detachKeys)
	if err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	// Asked first, so that the exit is known even when the container ends
	// during the next steps.
	exit := c.ContainerWait(context.WithoutCancel(ctx), name, mobyclient.ContainerWaitOptions{})
	info, err := attachable(ctx, c, name)
	if err != nil {
		return err
	}
	if err := a.Check(!o.noStdin, info.Config.Tty); err != nil {
		return err
	}
	// Until the streams are there, a signal ends the command: the daemon may
	// wait for a container that does not answer.
	resp, err := connect(ctx, c, name, info.Config, !o.noStdin, keys)
	if err != nil {
		return err
	}
	if o.sigProxy && !info.Config.Tty {
		// The signals go to the container, so they do not end the copying,
		// unless they do not get there.
		proxied, giveUp := context.WithCancel(context.WithoutCancel(ctx))
		defer giveUp()
		defer forwardSignals(ctx, a, c, name, giveUp)()
		if ctx.Err() != nil { // by a signal that came before
			resp.Close()
			return context.Cause(ctx)
		}
		ctx = proxied
	}
	at, err := attachNow(ctx, a, c, name, info.Config, resp, !o.noStdin, keys)
	if err != nil {
		return err
	}
	if !o.look && info.Config.Tty && a.OutIsTerminal() {
		redraw(ctx, a, c, name)
		followSize(ctx, a, c, name)
	}
	if err := at.wait(ctx); err != nil {
		return err
	}
	return exitCode(exit)
}

// connect attaches to a container. The request itself cannot be broken off, so
// it is left behind when ctx ends.
func connect(ctx context.Context, c *client.Client, name string, config *container.Config, stdin bool, keys string) (mobyclient.ContainerAttachResult, error) {
	type outcome struct {
		resp mobyclient.ContainerAttachResult
		err  error
	}
	result := make(chan outcome, 1)
	go func() {
		resp, err := c.ContainerAttach(ctx, name, mobyclient.ContainerAttachOptions{
			Stream: true, Stdin: stdin && config.OpenStdin, Stdout: true, Stderr: true, DetachKeys: keys,
		})
		result <- outcome{resp, err}
	}()
	select {
	case r := <-result:
		return r.resp, r.err
	case <-ctx.Done():
		return mobyclient.ContainerAttachResult{}, context.Cause(ctx)
	}
}

// attachNow copies the streams of a running container.
func attachNow(ctx context.Context, a *command.App, c *client.Client, name string, config *container.Config, resp mobyclient.ContainerAttachResult, stdin bool, keys string) (*attachment, error) {
	// A container that stopped since it was looked at would never end the
	// stream.
	if _, err := attachable(ctx, c, name); err != nil {
		resp.HijackedResponse.Close()
		return nil, err
	}
	session := newSession(a, resp.HijackedResponse, config.Tty)
	session.DetachKeys = keys
	session.Stdin, session.Stdout, session.Stderr = stdin && config.OpenStdin, true, true
	at := &attachment{done: make(chan error, 1), close: resp.HijackedResponse.Close}
	go func() { at.done <- session.Run(ctx) }()
	return at, nil
}

// wait returns when the streams have ended. An interrupted command is no
// error here: its cause decides the exit code.
func (at *attachment) wait(ctx context.Context) error {
	defer at.close()
	err := <-at.done
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// attachable returns the container if its streams can be attached to.
func attachable(ctx context.Context, c *client.Client, name string) (*container.InspectResponse, error) {
	info, err := c.ContainerInspect(ctx, name, mobyclient.ContainerInspectOptions{})
	if err != nil {
		return nil, err
	}
	switch state := info.Container.State; {
	case !state.Running:
		return nil, errors.New("cannot attach to a stopped container, start it first")
	case state.Paused:
		return nil, errors.New("cannot attach to a paused container, unpause it first")
	case state.Restarting:
		return nil, errors.New("cannot attach to a restarting container, wait until it is running")
	}
	return &info.Container, nil
}

// redraw makes the program in the container draw its screen again: terminals
// do that only when their size has changed, so it changes for a moment.
func redraw(ctx context.Context, a *command.App, c *client.Client, name string) {
	height, width := a.Size()
	if err := resizeContainer(c, name)(ctx, height+1, width+1); err != nil {
		a.Log.Debug("resize terminal", "err", err)
	}
}
