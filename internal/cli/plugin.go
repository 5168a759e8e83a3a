package cli

import (
	"encoding/json"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
	"github.com/portholehq/porthole/internal/cli/system"
)

// Under the name docker-porthole this program is a plugin of Docker's command
// line: `docker porthole why web`. Docker asks a plugin once what it is, and
// then runs it with its own arguments, global flags first
// (github.com/docker/cli, cli-plugins/metadata and cli-plugins/manager).
//
//	docker-porthole docker-cli-plugin-metadata
//	docker-porthole -H unix:///x.sock porthole why web
const (
	pluginProgram  = "docker-porthole"
	pluginCommand  = "porthole"
	pluginMetadata = "docker-cli-plugin-metadata"
)

// isPlugin tells whether the program was called as a plugin.
func isPlugin(program string) bool { return filepath.Base(program) == pluginProgram }

// writePluginMetadata tells Docker's command line what this is.
func writePluginMetadata(w io.Writer, b system.Build) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "     ")
	return enc.Encode(struct{ SchemaVersion, Vendor, Version, ShortDescription string }{
		"0.1.0", "Porthole", b.Version, "Look into containers: why, deaths, forward, net and all else of porthole",
	})
}

// withoutPlugin takes the plugin's own name out of Docker's arguments.
func withoutPlugin(a *command.App, args []string) []string {
	flags := &cobra.Command{}
	a.Global.AddFlags(flags.Flags())
	rest := behindFlags(flags, args)
	at := len(args) - len(rest)
	if len(rest) > 1 && (rest[0] == "help" || rest[0] == cobra.ShellCompRequestCmd || rest[0] == cobra.ShellCompNoDescRequestCmd) {
		at++
	}
	if at < len(args) && args[at] == pluginCommand {
		return append(append([]string{}, args[:at]...), args[at+1:]...)
	}
	return args
}
