// Package volumes has the verbs of the group "volume", one file each.
package volumes

import (
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewGroup returns "volume" with the verbs of this package.
func NewGroup(a *command.App) *cobra.Command {
	return command.Group(a, "volume", "Manage volumes", newCreate(a), newInspect(a), newList(a), newPrune(a), newRemove(a), newUpdate(a))
}
