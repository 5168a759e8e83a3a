package containers

import (
	"context"
	"errors"
	"io"

	"github.com/docker/cli/opts"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/tty"
)

type execOptions struct {
	detachKeys, user, workdir            string
	interactive, tty, detach, privileged bool
	env, envFile                         opts.ListOpts
	dieWithClient                        bool

	sessions execSessions
}

// NewExec returns "exec".
func NewExec(a *command.App) *cobra.Command {
	o := execOptions{env: opts.NewListOpts(opts.ValidateEnv), envFile: opts.NewListOpts(nil)}
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
		Short: "Execute a command in a running container",
		Args: func(cmd *cobra.Command, args []string) error {
			if check := o.sessions.args(); check != nil {
				return check(cmd, args)
			}
			return command.MinArgs(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.sessions.asked() {
				return o.sessions.run(cmd.Context(), a, args)
			}
			return o.run(cmd.Context(), a, args[0], args[1:])
		},
		ValidArgsFunction:     a.CompleteContainers(1, command.Running),
		DisableFlagsInUseLine: true,
	}
	set := cmd.Flags()
	set.SetInterspersed(false)
	set.StringVar(&o.detachKeys, "detach-keys", "", "Override the key sequence for detaching a container")
	set.BoolVarP(&o.interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	set.BoolVarP(&o.tty, "tty", "t", false, "Allocate a pseudo-TTY")
	set.BoolVarP(&o.detach, "detach", "d", false, "Detached mode: run command in the background")
	set.StringVarP(&o.user, "user", "u", "", `Username or UID (format: "<name|uid>[:<group|gid>]")`)
	set.BoolVar(&o.privileged, "privileged", false, "Give extended privileges to the command")
	set.VarP(&o.env, "env", "e", "Set environment variables")
	set.Var(&o.envFile, "env-file", "Read in a file of environment variables")
	set.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	set.BoolVar(&o.dieWithClient, "die-with-client", false, "End the command when this client is gone")
	o.sessions.add(set)
	return command.Common(cmd, 2, "container exec", "exec")
}

func (o *execOptions) run(ctx context.Context, a *command.App, name string, argv []string) error {
	if o.dieWithClient && o.detach {
		return errors.New("conflicting options: a detached command has no client to end with")
	}
	req, err := o.request(a, argv)
	if err != nil {
		return err
	}
	c, err := a.Client()
	if err != nil {
		return err
	}
	if c.Local() && !o.tty && !o.detach && !o.dieWithClient {
		if err := execDirectly(ctx, a, c, name, req); !notOurs(err) {
			return err
		}
	}
	// An exec that is never started stays in the daemon for a while, so the
	// terminal is checked before one is made; and a wrong name is told before
	// a wrong terminal.
	if _, err := c.ContainerInspect(ctx, name, mobyclient.ContainerInspectOptions{}); err != nil {
		return err
	}
	if !o.detach {
		if err := a.Check(req.AttachStdin, req.TTY); err != nil {
			return err
		}
	}
	if req.TTY {
		req.ConsoleSize.Height, req.ConsoleSize.Width = a.Size()
	}
	created, err := c.ExecCreate(ctx, name, req)
	if err != nil {
		return err
	}
	if created.ID == "" {
		return errors.New("exec ID empty")
	}
	if o.dieWithClient {
		if err := c.ExecDieWithClient(ctx, created.ID, true); err != nil {
			return err
		}
	}
	if o.detach {
		_, err := c.ExecStart(ctx, created.ID, mobyclient.ExecStartOptions{Detach: true, TTY: req.TTY, ConsoleSize: req.ConsoleSize})
		return err
	}
	return o.attached(ctx, a, c, created.ID, req)
}

func (o *execOptions) request(a *command.App, argv []string) (mobyclient.ExecCreateOptions, error) {
	req := mobyclient.ExecCreateOptions{
		User: o.user, Privileged: o.privileged, TTY: o.tty, Cmd: argv, WorkingDir: o.workdir,
		AttachStdin: o.interactive && !o.detach, AttachStdout: !o.detach, AttachStderr: !o.detach,
	}
	var err error
	if req.Env, err = opts.ReadKVEnvStrings(o.envFile.GetSlice(), o.env.GetSlice()); err != nil {
		return req, err
	}
	req.DetachKeys, err = detachKeys(a, o.detachKeys)
	return req, err
}

func (o *execOptions) attached(ctx context.Context, a *command.App, c *client.Client, id string, req mobyclient.ExecCreateOptions) error {
	detach := func() error { return nil }
	if o.dieWithClient {
		detach = func() error { return c.ExecDieWithClient(ctx, id, false) }
	}
	if err := execStreams(ctx, a, c, id, req, detach); err != nil {
		return err
	}
	return execExit(ctx, a, c, id)
}

// execStreams starts an exec and connects it with the standard streams until it
// has ended, or was detached from: then detach is called before the connection
// is closed. With a nil detach nobody can.
func execStreams(ctx context.Context, a *command.App, c *client.Client, id string, req mobyclient.ExecCreateOptions, detach func() error) error {
	resp, err := c.ExecAttach(ctx, id, mobyclient.ExecAttachOptions{TTY: req.TTY, ConsoleSize: req.ConsoleSize})
	if err != nil {
		return err
	}
	defer resp.HijackedResponse.Close()

	session := newSession(a, resp.HijackedResponse, req.TTY)
	session.DetachKeys, session.NoDetach = req.DetachKeys, detach == nil
	session.Stdin, session.Stdout, session.Stderr = req.AttachStdin, req.AttachStdout, req.AttachStderr
	done := make(chan error, 1)
	go func() { done <- session.Run(ctx) }()

	if req.TTY && a.InIsTerminal() {
		sizeCtx, stop := context.WithCancel(ctx)
		defer stop()
		a.Follow(sizeCtx, func(ctx context.Context, height, width uint) error {
			_, err := c.ExecResize(ctx, id, mobyclient.ExecResizeOptions{Height: height, Width: width})
			return err
		}, a.Log, func() { resizeFailed(a) })
	}
	err = <-done
	if errors.Is(err, tty.ErrDetached) {
		err = errors.Join(err, detach())
	}
	return err
}

func execExit(ctx context.Context, a *command.App, c *client.Client, id string) error {
	info, err := c.ExecInspect(ctx, id, mobyclient.ExecInspectOptions{})
	if mobyclient.IsErrConnectionFailed(err) {
		// The daemon has died; how the command ended is not known.
		return &command.StatusError{Code: 255, Err: err}
	}
	if err != nil {
		return err
	}
	if info.ExitCode >= 126 && info.ExitCode <= 128 {
		// It may not have been executed. Where nothing can say why, as with another engine, there is nothing to add.
		if hint, err := c.ExecHint(ctx, id); err == nil {
			execHint(a, hint)
		}
	}
	return command.Exit(info.ExitCode)
}

func execHint(a *command.App, hint string) {
	if hint != "" {
		_, _ = io.WriteString(a.Err, "hint: "+hint+"\n")
	}
}
