package networks

import (
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewGroup returns "network" with the verbs of this package.
func NewGroup(a *command.App) *cobra.Command {
	return command.Group(a, "network", "Manage networks",
		newConnect(a), newCreate(a), newDisconnect(a), newInspect(a), newList(a), newPrune(a), newRemove(a),
	)
}
