package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/portholehq/porthole/internal/buildspec"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/system"
	"github.com/portholehq/porthole/internal/cli/tty"
)

// Streams are the standard streams of an invocation.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Exit ends the program at once, for a user who has asked three times.
	Exit func(code int)
	// Program is the name that the program was called by; under docker-porthole
	// it is a plugin of Docker's command line.
	Program string
	// Build builds by BuildKit's API; nil in the program that leaves that to another.
	Build func(ctx context.Context, a *command.App, r buildspec.Request) error
}

// Main runs the command line with args, which do not include the program's
// name, and returns the code to exit with. build is shown by version.
//
// A first SIGINT, SIGTERM, SIGHUP or SIGQUIT ends the command in an orderly
// way and gives 128 plus its number; a third SIGINT or SIGTERM ends the
// program at once. The terminal is left as it was found, also by a panic.
func Main(s Streams, args []string, build system.Build) (code int) {
	term := tty.New(s.In, s.Out, s.Err)
	defer term.Restore()
	ctx, catching, stop := untilSignal(context.Background(), func() {
		term.Restore()
		_, _ = io.WriteString(s.Err, "\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n")
		s.Exit(1)
	})
	defer stop()

	app := command.New(term)
	app.Build = s.Build
	defer app.Close()
	if isPlugin(s.Program) {
		if len(args) == 1 && args[0] == pluginMetadata {
			if err := writePluginMetadata(s.Out, build); err != nil {
				return 1
			}
			return 0
		}
		args = withoutPlugin(app, args)
	}
	root := newRoot(app, build, args)
	root.SetArgs(args)
	<-catching
	err := root.ExecuteContext(ctx)
	// A command that has come to its end in spite of the signal, as those do
	// that pass signals on, has its own code.
	if sig, ok := errors.AsType[*signalError](context.Cause(ctx)); ok && (errors.Is(err, context.Canceled) || errors.Is(err, sig)) {
		return 128 + int(sig.signal)
	}
	if err != nil {
		app.Report(err)
	}
	return command.ExitCode(err)
}

// signalError is the cause of a context that a signal has ended.
type signalError struct{ signal syscall.Signal }

func (e *signalError) Error() string { return fmt.Sprintf("got signal %d", int(e.signal)) }

// forceAfter is the number of signals after which the user is taken to mean
// it.
const forceAfter = 3

// untilSignal returns a context that a signal to end cancels, with a
// *signalError as its cause. force is called for the third one. catching is
// closed once signals are caught: before that they end the program at once.
//
// Neither to begin nor to stop catching is waited for here, since the runtime
// needs some 50 µs for each signal.
func untilSignal(ctx context.Context, force func()) (_ context.Context, catching <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, forceAfter)
	caught := make(chan struct{})
	go func() {
		signal.Notify(signals, endSignals...)
		close(caught)
		count := 0
		for received := range signals {
			sig, ok := received.(syscall.Signal)
			if !ok {
				continue
			}
			cancel(&signalError{sig})
			if sig == syscall.SIGINT || sig == syscall.SIGTERM {
				count++
			}
			if count == forceAfter {
				force()
			}
		}
	}()
	return ctx, caught, func() {
		cancel(nil)
		go func() {
			<-caught
			signal.Stop(signals)
			close(signals)
		}()
	}
}

// joinWords joins the words that were not understood, or all of them.
func joinWords(rest, all []string) string {
	if len(rest) == 0 {
		rest = all
	}
	return strings.Join(rest, " ")
}
