// Porthole-toolbox is all commands of the toolbox image in one program: it is
// the one that it was called by, or that its first argument names.
package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/toolbox/applet"
	"github.com/portholehq/porthole/internal/toolbox/shell"
)

func main() {
	name, args := strings.TrimPrefix(filepath.Base(os.Args[0]), "-"), os.Args[1:]
	if name == "porthole-toolbox" && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	os.Exit(run(name, args))
}

func run(name string, args []string) int {
	switch name {
	case "sh", "ash", "bash", "porthole-toolbox":
		return shell.Main(args, isCommand)
	case "echo", "printf", "test", "[", "true", "false", "pwd":
		// The shell has them built in.
		return shell.Builtin(name, args)
	}
	if os.Getpid() == 1 {
		endOnSignal()
	}
	return applet.Run(name, args, applet.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

func isCommand(name string) bool {
	return name == "sh" || applet.Has(name)
}

// endOnSignal makes the first process of a container end by signals as any
// other process does. The kernel keeps signals without a handler from it, and
// what the Go runtime makes of that is exit status 2.
func endOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	go func() {
		if s, ok := (<-signals).(unix.Signal); ok {
			os.Exit(128 + int(s))
		}
	}()
}
