package system

import (
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewGroup returns the constructor of "system" for a program of build b.
func NewGroup(b Build) func(*command.App) *cobra.Command {
	return func(a *command.App) *cobra.Command {
		return command.Group(a, "system", "Manage Porthole",
			newDf(a), newDialStdio(a), NewEvents(a), NewInfo(b)(a), newPrune(a),
		)
	}
}
