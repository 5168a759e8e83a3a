package containers

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/container"
	mobyclient "github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/createflags"
	"github.com/portholehq/porthole/internal/cli/tty"
)

type runOptions struct {
	creation
	detach, sigProxy bool
	detachKeys       string
}

// NewRun returns "run".
func NewRun(a *command.App) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Create and run a new container from an image",
		Args:  command.MinArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := o.request(cmd, a, args)
			if err != nil {
				return err
			}
			return o.run(cmd, a, req)
		},
		ValidArgsFunction:     a.CompleteImages(1),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.BoolVarP(&o.detach, "detach", "d", false, "Run container in background and print container ID")
	set.BoolVar(&o.sigProxy, "sig-proxy", true, "Proxy received signals to the process")
	set.StringVar(&o.detachKeys, "detach-keys", "", "Override the key sequence for detaching a container")
	o.addFlags(set, "running")
	addCreateCompletions(cmd, a)
	return command.Common(cmd, 1, "container run", "run")
}

func (o *runOptions) run(cmd *cobra.Command, a *command.App, req *createflags.Request) error {
	keys, err := o.prepare(a, req.Config)
	if err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	var direct *client.Run
	id, err := o.create(cmd.Context(), a, req, o.sendTo(c, &direct))
	if err != nil {
		return command.WithHelp(cmd, startFailure(err), err)
	}
	if direct != nil {
		id, err = direct.ID, o.finish(cmd, a, c, direct, req.Config)
	} else {
		err = o.watched(cmd, a, c, id, req.Config, keys)
	}
	if req.Learns() && !o.detach {
		tellLearned(cmd.Context(), a, c, id)
	}
	return err
}

// watched starts a container that was made, and stays with it.
func (o *runOptions) watched(cmd *cobra.Command, a *command.App, c *client.Client, id string, config *container.Config, keys string) error {
	if o.sigProxy {
		defer forwardSignals(cmd.Context(), a, c, id, nil)()
	}
	r := &running{cmd: cmd, app: a, client: c, id: id, config: config, autoRemove: o.flags.AutoRemove()}
	return r.run(keys)
}

// sendTo returns the sender for run, which starts the container at once where
// that can be done, and then sets direct.
func (o *runOptions) sendTo(c *client.Client, direct **client.Run) sender {
	return func(ctx context.Context, a *command.App, req *createflags.Request, platform *ocispec.Platform) (mobyclient.ContainerCreateResult, error) {
		if !mayRunDirectly(c, req) {
			return o.send(ctx, a, req, platform)
		}
		run, err := c.Run(ctx, client.RunOptions{
			Name: o.name, Platform: platform,
			Request: container.CreateRequest{Config: req.Config, HostConfig: req.HostConfig, NetworkingConfig: req.Networking},
			Stdin:   req.Config.AttachStdin, Stdout: req.Config.AttachStdout, Stderr: req.Config.AttachStderr,
		})
		if notOurs(err) {
			return o.send(ctx, a, req, platform)
		}
		if err != nil {
			return mobyclient.ContainerCreateResult{}, err
		}
		*direct = run
		return mobyclient.ContainerCreateResult{ID: run.ID, Warnings: run.Warnings}, nil
	}
}

// finish ends a run that was started directly.
func (o *runOptions) finish(cmd *cobra.Command, a *command.App, c *client.Client, run *client.Run, config *container.Config) error {
	if config.AttachStdin || config.AttachStdout || config.AttachStderr {
		return o.follow(cmd, a, c, run, config)
	}
	_, _ = fmt.Fprintln(a.Out, run.ID)
	if _, err := run.End(); err != nil {
		return command.WithHelp(cmd, startFailure(err), err)
	}
	return nil
}

// prepare checks what can be checked before a container exists, and settles
// which streams are attached.
func (o *runOptions) prepare(a *command.App, config *container.Config) (keys string, err error) {
	if o.detach {
		if o.flags.AttachGiven() {
			return "", errors.New("conflicting options: cannot specify both --attach and --detach")
		}
		config.AttachStdin, config.AttachStdout, config.AttachStderr, config.StdinOnce = false, false, false, false
	} else if err := a.Check(config.AttachStdin, config.Tty); err != nil {
		return "", err
	}
	return detachKeys(a, o.detachKeys)
}

// running is a container that was made and is to be started and watched.
type running struct {
	cmd        *cobra.Command
	app        *command.App
	client     *client.Client
	id         string
	config     *container.Config
	autoRemove bool
}

// run attaches before it starts, so that nothing printed is lost, and waits
// before it starts, so that no exit is missed.
func (r *running) run(keys string) error {
	// From here on signals belong to the container; only the third of them
	// ends this program.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.cmd.Context()))
	defer cancel()

	attached := r.config.AttachStdin || r.config.AttachStdout || r.config.AttachStderr
	if !attached {
		_, _ = fmt.Fprintln(r.app.Out, r.id)
		var removed <-chan int
		if r.autoRemove {
			removed = waitForExit(ctx, r.app, r.client, r.id, true)
		}
		return r.start(ctx, removed, func() {})
	}
	at, err := attach(ctx, r.app, r.client, r.id, r.config.Tty, mobyclient.ContainerAttachOptions{
		Stream: true, Stdin: r.config.AttachStdin, Stdout: r.config.AttachStdout, Stderr: r.config.AttachStderr,
		DetachKeys: keys,
	})
	if err != nil {
		return err
	}
	defer at.close()

	waitCtx, stopWait := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWait()
	exited := waitForExit(waitCtx, r.app, r.client, r.id, r.autoRemove)
	if err := r.start(ctx, exited, func() { cancel(); at.finish(r.app) }); err != nil {
		return err
	}
	if r.config.Tty && r.app.OutIsTerminal() {
		followSize(ctx, r.app, r.client, r.id)
	}
	return r.watch(at, exited, cancel)
}

// start starts the container. When that fails, detach is called to give the
// terminal back, and with --rm the container's removal is awaited. exited may
// be nil without --rm.
func (r *running) start(ctx context.Context, exited <-chan int, detach func()) error {
	_, err := r.client.ContainerStart(ctx, r.id, mobyclient.ContainerStartOptions{})
	if err == nil {
		return nil
	}
	detach()
	if r.autoRemove {
		<-exited
	}
	return command.WithHelp(r.cmd, startFailure(err), err)
}

// watch waits for the end of the streams and of the container.
func (r *running) watch(at *attachment, exited <-chan int, cancel func()) error {
	select {
	case err := <-at.done:
		if errors.Is(err, tty.ErrDetached) {
			return nil
		}
		if err != nil {
			return err
		}
		return command.Exit(<-exited)
	case code := <-exited:
		// What the container has printed last may still be on its way. With
		// neither output attached there is nothing to wait for.
		if !r.config.AttachStdout && !r.config.AttachStderr {
			cancel()
		}
		at.finish(r.app)
		return command.Exit(code)
	}
}
