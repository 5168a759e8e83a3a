// Command porthole-build is the command line with BuildKit's client in it. The
// program porthole becomes it for a build that needs more than the classic one:
// secrets, outputs, several platforms. It is apart, since BuildKit and gRPC would
// make every other command start more slowly.
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/portholehq/porthole/internal/build/caller"
	"github.com/portholehq/porthole/internal/buildspec"
	"github.com/portholehq/porthole/internal/cli"
	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/system"
	"github.com/portholehq/porthole/internal/daemon"
)

// Set by the linker; see the Makefile.
var version, commit, built string

func main() {
	streams := cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Exit: os.Exit, Program: os.Args[0], Build: build}
	os.Exit(cli.Main(streams, os.Args[1:], system.ThisBuild(version, commit, built)))
}

func build(ctx context.Context, a *command.App, r buildspec.Request) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	daemon.RedirectLogrus(slog.New(slog.DiscardHandler)) // the libraries' notes are of no use to people
	// The display looks at the terminal itself, so it gets the file.
	return caller.Build(ctx, caller.Options{Dial: c.DialHijack, In: a.In, Out: a.Out, Err: os.Stderr, Config: a.Config()}, r)
}
