// Package dap debugs builds from an editor, by the Debug Adapter Protocol: it
// stands between the editor and the daemon's endpoints for debugging builds.
//
//	editor ── DAP, standard streams or TCP ──▶ session ── HTTP ──▶ daemon
//
// A session is one build. The instructions of the Dockerfile are what lines are
// to a program: breakpoints, steps, also back, and the failure of one is an
// exception that it stops at. Variables are the arguments, the environment and
// the files of the step; what is evaluated is run in it.
//
// The protocol is at https://microsoft.github.io/debug-adapter-protocol.
package dap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// New returns "dap".
func New(a *command.App) *cobra.Command {
	listen := ""
	cmd := &cobra.Command{
		Use:   "dap [OPTIONS]",
		Short: "Debug builds from an editor, by the Debug Adapter Protocol",
		Long: "Debug builds from an editor, by the Debug Adapter Protocol, on standard input and output or for each connection to an address.\n\n" +
			"The editor launches a build with these settings: contextPath, dockerfile, target, platform, args, tags, noCache, pull, stopOnEntry.\n\n" +
			"Whoever can connect to the address builds as you do: files that you can read, with the daemon that you use.",
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if listen == "" {
				return serve(cmd.Context(), a, struct {
					io.Reader
					io.Writer
				}{a.In, a.Out})
			}
			return serveAll(cmd.Context(), a, listen)
		},
		DisableFlagsInUseLine: true,
	}
	cmd.Flags().StringVar(&listen, "listen", "", `Address to accept editors at, as "127.0.0.1:4711"; port 0 takes a free one, which is told`)
	return cmd
}

// serveAll serves each connection, until ctx ends.
func serveAll(ctx context.Context, a *command.App, address string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.Out, "DAP server listening at: %s\n", l.Addr()); err != nil {
		return errors.Join(err, l.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		sessions.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			if err := serve(ctx, a, conn); err != nil {
				_, _ = fmt.Fprintln(a.Err, err)
			}
		})
	}
}
