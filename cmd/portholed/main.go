// Command portholed is the daemon: it holds the containers, images, networks and
// volumes of one machine, and answers the Docker Engine API and Porthole's own.
//
// This package reads the settings, wires the parts together (parts.go) and sees
// the process through its life (life.go). It may be killed at any time: the
// containers go on, and the next daemon adopts them.
package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/portholehq/porthole/internal/daemon"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/coredump"
	"github.com/portholehq/porthole/internal/network/keeper"
)

// Set by the linker.
var (
	version = "0.0.0-dev"
	commit  = "unknown"
	built   = "unknown"
)

func main() {
	if os.Args[0] == keeper.Name {
		os.Exit(keeper.Main(os.Args[1:]))
	}
	if os.Args[0] == coredump.CrashName {
		coredump.Crash()
	}
	started := time.Now()
	config, cmd, err := settings(os.Args[1:])
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Print(cmd.Usage)
		return
	case cmd.Version:
		fmt.Printf("Porthole version %s, build %s\n", version, commit)
		return
	case err != nil:
		fail(err)
	case cmd.Validate:
		fmt.Println("configuration OK")
		return
	}
	if err := daemon.CheckHost(); err != nil {
		fail(err)
	}
	if err := run(config, started); err != nil {
		fail(err)
	}
}

// settings reads the settings and checks them, also those that only the engine knows the values of.
func settings(args []string) (*daemon.Config, daemon.Command, error) {
	config, cmd, err := daemon.Parse(args)
	if err == nil {
		err = engine.CheckLogConfig(logConfig(config))
	}
	return config, cmd, err
}

// fail ends the program with one line that says why.
func fail(err error) {
	fmt.Fprintln(os.Stderr, "portholed:", err)
	os.Exit(1)
}
