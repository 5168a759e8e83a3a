package system

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// newDialStdio returns "system dial-stdio", which ssh:// hosts run at the
// other end.
func newDialStdio(a *command.App) *cobra.Command {
	return &cobra.Command{
		Use:    "dial-stdio",
		Short:  "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
		Args:   command.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return dialStdio(cmd.Context(), a)
		},
		ValidArgsFunction:     cobra.NoFileCompletions,
		DisableFlagsInUseLine: true,
	}
}

// dialStdio copies both ways until the daemon closes its side. The end of
// standard input is passed on and is not yet the end: the daemon may still
// have much to say.
func dialStdio(ctx context.Context, a *command.App) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	conn, err := c.Dialer()(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("the raw stream connection does not implement CloseWrite")
	}
	go func() {
		_, _ = io.Copy(conn, a.In)
		_ = half.CloseWrite()
	}()
	_, err = io.Copy(a.Out, conn)
	return err
}
