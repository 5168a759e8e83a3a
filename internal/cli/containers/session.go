// Package containers has the verbs that work on containers, one file each.
// They stand at the top level and in the group "container".
package containers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/tty"
)

// detachKeys returns the keys of the flag, or else those of the
// configuration, once they have been checked.
func detachKeys(a *command.App, flag string) (string, error) {
	keys := flag
	if keys == "" {
		keys = a.Config().DetachKeys
	}
	return keys, tty.CheckDetachKeys(keys)
}

// attachment is a connection to a container's streams that is being copied.
type attachment struct {
	done  chan error
	close func()
}

// attach connects to the streams of a container and begins to copy them. The
// copying ends with the container's output, with ctx, or by the detach keys.
func attach(ctx context.Context, a *command.App, c *client.Client, id string, hasTTY bool, o mobyclient.ContainerAttachOptions) (*attachment, error) {
	// The stream outlives an interrupted command: what the container has to
	// say is waited for, and signals go to the container.
	resp, err := c.ContainerAttach(context.WithoutCancel(ctx), id, o)
	if err != nil {
		return nil, err
	}
	session := newSession(a, resp.HijackedResponse, hasTTY)
	session.DetachKeys = o.DetachKeys
	session.Stdin, session.Stdout, session.Stderr = o.Stdin, o.Stdout, o.Stderr
	at := &attachment{done: make(chan error, 1), close: resp.HijackedResponse.Close}
	go func() { at.done <- session.Run(ctx) }()
	return at, nil
}

// finish waits for the end of the copying where its error does not matter:
// the container's own end says it all.
func (at *attachment) finish(a *command.App) {
	if err := <-at.done; err != nil {
		a.Log.Debug("copy streams", "err", err)
	}
}

func newSession(a *command.App, resp mobyclient.HijackedResponse, hasTTY bool) *tty.Session {
	return &tty.Session{
		Terminal: a.Terminal, Conn: halfCloser{resp}, Reader: resp.Reader, TTY: hasTTY, Debug: a.Log,
	}
}

// halfCloser is the writing half of a hijacked connection.
type halfCloser struct{ resp mobyclient.HijackedResponse }

func (h halfCloser) Write(p []byte) (int, error) { return h.resp.Conn.Write(p) }
func (h halfCloser) CloseWrite() error           { return h.resp.CloseWrite() }

// followSize passes the size of the terminal on to a container's, from now on
// until ctx ends.
func followSize(ctx context.Context, a *command.App, c *client.Client, id string) {
	a.Follow(ctx, resizeContainer(c, id), a.Log, func() { resizeFailed(a) })
}

func resizeContainer(c *client.Client, id string) tty.Resize {
	return func(ctx context.Context, height, width uint) error {
		_, err := c.ContainerResize(ctx, id, mobyclient.ContainerResizeOptions{Height: height, Width: width})
		return err
	}
}

func resizeFailed(a *command.App) {
	_, _ = fmt.Fprintln(a.Err, "failed to resize tty, using default size")
}

// forwardTimeout is how long the daemon may take for a signal that is passed on.
const forwardTimeout = 5 * time.Second

// endNames are the signals that are meant to end what gets them.
var endNames = []string{"INT", "TERM", "HUP", "QUIT"}

// forwardSignals sends the signals that this process gets to a container's
// first process, until the returned function is called. undelivered, if not
// nil, is called when one that is meant to end it does not get there, because
// the daemon does not answer or cannot reach the container.
func forwardSignals(ctx context.Context, a *command.App, c *client.Client, id string, undelivered func()) (stop func()) {
	return tty.ForwardSignals(context.WithoutCancel(ctx), func(ctx context.Context, name string) {
		bounded, cancel := context.WithTimeout(ctx, forwardTimeout)
		defer cancel()
		_, err := c.ContainerKill(bounded, id, mobyclient.ContainerKillOptions{Signal: name})
		if err == nil {
			return
		}
		a.Log.Debug("forward signal", "signal", name, "err", err)
		if undelivered != nil && slices.Contains(endNames, name) && (bounded.Err() != nil || errdefs.IsUnavailable(err)) {
			undelivered()
		}
	})
}

// waitForExit begins to wait for a container's exit, or for its removal where
// removed. The request has been received by the daemon when it returns, so
// that no exit is missed. The channel carries one exit code.
func waitForExit(ctx context.Context, a *command.App, c *client.Client, id string, removed bool) <-chan int {
	condition := container.WaitConditionNextExit
	if removed {
		condition = container.WaitConditionRemoved
	}
	result := c.ContainerWait(ctx, id, mobyclient.ContainerWaitOptions{Condition: condition})
	code := make(chan int, 1)
	go func() {
		select {
		case r := <-result.Result:
			if r.Error == nil {
				code <- int(r.StatusCode)
				return
			}
			waitFailed(a, errors.New(r.Error.Message))
		case err := <-result.Error:
			if ctx.Err() != nil {
				return
			}
			waitFailed(a, err)
		}
		code <- 125
	}()
	return code
}

func waitFailed(a *command.App, err error) {
	_, _ = fmt.Fprintln(a.Err, "error waiting for container:", command.Message(err))
}

// exitCode waits for the answer to a plain wait request.
func exitCode(result mobyclient.ContainerWaitResult) error {
	select {
	case r := <-result.Result:
		if r.Error != nil {
			return errors.New(r.Error.Message)
		}
		return command.Exit(int(r.StatusCode))
	case err := <-result.Error:
		return err
	}
}

// startFailure gives an error in starting a container its exit code: 127 when
// the command was not found, 126 when it could not be executed, 125 otherwise.
func startFailure(err error) int {
	if mobyclient.IsErrConnectionFailed(err) {
		return 125
	}
	text := err.Error()
	for _, s := range []string{"executable file not found", "no such file or directory", "system cannot find the file specified"} {
		if strings.Contains(text, s) {
			return 127
		}
	}
	for _, s := range []string{"permission denied", "is a directory"} {
		if strings.Contains(text, s) {
			return 126
		}
	}
	return 125
}
