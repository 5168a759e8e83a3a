// Package command is what the verbs of the command line have in common: the
// [App] with its streams, client and configuration, the errors that carry an
// exit code, the checks of arguments, the form of help, and the printing of
// lists.
//
// A verb is a function from an App to a *cobra.Command, one file each:
//
//	func NewRename(a *command.App) *cobra.Command {
//		return &cobra.Command{
//			Use:  "rename CONTAINER NEW_NAME",
//			Args: command.ExactArgs(2),
//			RunE: func(cmd *cobra.Command, args []string) error { … },
//		}
//	}
package command

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/client"
	"github.com/portholehq/porthole/internal/buildspec"
	"github.com/portholehq/porthole/internal/cli/tty"
)

// App is one invocation of the command line.
type App struct {
	*tty.Terminal
	// Global holds the flags that stand before the verb.
	Global Global
	// Log has what --debug shows. It writes to standard error.
	Log *slog.Logger
	// Build builds by BuildKit's API; nil in programs that do not know it.
	Build func(ctx context.Context, a *App, r buildspec.Request) error

	connect func() (*client.Client, error)
	config  func() *configfile.ConfigFile
}

// New returns an App on t.
func New(t *tty.Terminal) *App {
	a := &App{Terminal: t, Log: slog.New(slog.DiscardHandler)}
	a.connect = sync.OnceValues(func() (*client.Client, error) { return a.Global.connect() })
	a.config = sync.OnceValue(func() *configfile.ConfigFile { return loadConfig(a.Global.ConfigDir, a.Err) })
	return a
}

// Client returns the client of the daemon that the flags and the environment
// name. Nothing is dialled before the first request.
func (a *App) Client() (*client.Client, error) { return a.connect() }

// Config returns the user's configuration, read when first asked for. Docker's
// file is used, so that credentials and formats are the ones already set.
func (a *App) Config() *configfile.ConfigFile { return a.config() }

// Close ends what the App has opened.
func (a *App) Close() {
	if a.Global.connected {
		if c, err := a.connect(); err == nil {
			_ = c.Close()
		}
	}
}

// loadConfig reads the configuration in dir. A file that cannot be used is
// reported and does not stop the command: none depends on it to be safe.
func loadConfig(dir string, stderr io.Writer) *configfile.ConfigFile {
	if dir == "" {
		dir = DefaultConfigDir()
	}
	if _, err := os.Stat(filepath.Join(dir, config.ConfigFileName)); err != nil {
		return configfile.New(filepath.Join(dir, config.ConfigFileName))
	}
	file, err := config.Load(dir)
	if err != nil {
		_, _ = io.WriteString(stderr, "WARNING: Error loading config file: "+err.Error()+"\n")
	}
	return file
}

// DefaultConfigDir is where the configuration is when no flag says so.
func DefaultConfigDir() string {
	for _, name := range []string{"PORTHOLE_CONFIG", "DOCKER_CONFIG"} {
		if dir := os.Getenv(name); dir != "" {
			return dir
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ".docker"
	}
	return filepath.Join(home, ".docker")
}

// ServerOS returns the daemon's operating system, which a few flags depend on.
// Daemons behind a unix socket run on Linux and are not asked.
func (a *App) ServerOS(ctx context.Context) (string, error) {
	c, err := a.Client()
	if err != nil {
		return "", err
	}
	if c.Local() {
		return "linux", nil
	}
	ping, err := c.Ping(ctx, mobyclient.PingOptions{NegotiateAPIVersion: true})
	if err != nil {
		return "", err
	}
	return ping.OSType, nil
}
