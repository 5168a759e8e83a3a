package containers

import (
	"slices"
	"strings"

	"github.com/moby/sys/signal"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// completeSignals completes the flag --signal of cmd.
func completeSignals(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("signal", signalNames)
}

func signalNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for name := range signal.SignalMap {
		if !strings.HasPrefix(name, "RT") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, cobra.ShellCompDirectiveNoFileComp
}

// addCreateCompletions completes the flags of run and create that have a
// known set of values.
func addCreateCompletions(cmd *cobra.Command, a *command.App) {
	fixed := func(values ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	}
	for flag, complete := range map[string]cobra.CompletionFunc{
		"attach":       fixed("stderr", "stdin", "stdout"),
		"cgroupns":     fixed("host", "private"),
		"ipc":          fixed("container:", "host", "none", "private", "shareable"),
		"network":      a.CompleteNetworks(-1),
		"pid":          fixed("container:", "host"),
		"pull":         fixed(pullAlways, pullMissing, pullNever),
		"restart":      fixed("always", "no", "on-failure", "unless-stopped"),
		"stop-signal":  signalNames,
		"userns":       fixed("host", "private"),
		"uts":          fixed("host"),
		"volumes-from": a.CompleteContainers(-1, command.Any),
	} {
		_ = cmd.RegisterFlagCompletionFunc(flag, complete)
	}
}
