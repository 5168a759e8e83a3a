package containers

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/moby/moby/api/types/container"
	mobyclient "github.com/moby/moby/client"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/createflags"
	"github.com/portholehq/porthole/internal/cli/tty"
)

// run and exec talk to a Porthole daemon on this machine by one request each;
// with Docker's API they need six and five, the version's negotiation
// included. With a terminal, whose size has to follow, a person waits anyway.

// notOurs tells that a request for one of our endpoints has to be made in
// Docker's way: there is none, or nobody at all, which that way words better.
func notOurs(err error) bool {
	if errors.Is(err, client.ErrNotPorthole) {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// mayRunDirectly tells whether run may use the one request. The file with the
// container's id has to be there before the container is started.
func mayRunDirectly(c *client.Client, req *createflags.Request) bool {
	return c.Local() && !req.Config.Tty && req.HostConfig.ContainerIDFile == ""
}

// follow copies the streams of a run until its end.
func (o *runOptions) follow(cmd *cobra.Command, a *command.App, c *client.Client, run *client.Run, config *container.Config) error {
	defer func() { _ = run.Close() }()
	// From here on signals belong to the container; only the third of them
	// ends this program.
	ctx := context.WithoutCancel(cmd.Context())
	if o.sigProxy {
		defer forwardSignals(ctx, a, c, run.ID, nil)()
	}
	session := streamSession(a, run.EndedStream)
	session.Stdin, session.Stdout, session.Stderr = config.AttachStdin, config.AttachStdout, config.AttachStderr
	if err := session.Run(ctx); err != nil {
		return err
	}
	if !session.Stdout && !session.Stderr {
		_, _ = io.Copy(io.Discard, run) // there is nothing but the end
	}
	end, err := run.End()
	switch {
	case err != nil:
		return command.WithHelp(cmd, startFailure(err), err)
	case end == nil:
		return command.Exit(<-waitForExit(ctx, a, c, run.ID, o.flags.AutoRemove()))
	case end.WaitError != "":
		waitFailed(a, errors.New(end.WaitError))
		return command.Exit(125)
	}
	return command.Exit(end.ExitCode)
}

func streamSession(a *command.App, s *client.EndedStream) *tty.Session {
	return &tty.Session{Terminal: a.Terminal, Conn: s, Reader: s, Debug: a.Log}
}

// execDirectly runs a command by the one request. The error is that of notOurs
// if it cannot be used.
func execDirectly(ctx context.Context, a *command.App, c *client.Client, name string, req mobyclient.ExecCreateOptions) error {
	stream, err := c.Exec(ctx, name, container.ExecCreateRequest{
		User: req.User, Privileged: req.Privileged, Cmd: req.Cmd, Env: req.Env, WorkingDir: req.WorkingDir, DetachKeys: req.DetachKeys,
		AttachStdin: req.AttachStdin, AttachStdout: req.AttachStdout, AttachStderr: req.AttachStderr,
	})
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	session := streamSession(a, stream)
	session.Stdin, session.Stdout, session.Stderr = req.AttachStdin, req.AttachStdout, req.AttachStderr
	if err := session.Run(ctx); err != nil {
		return err
	}
	end, err := stream.End()
	if err != nil {
		return err
	}
	if end == nil {
		return &command.StatusError{Code: 255, Err: errors.New("the daemon has ended, and how the command did is not known")}
	}
	execHint(a, end.Hint)
	return command.Exit(end.ExitCode)
}
