// Package builds has the verbs about builds that were: below "build", one file
// each.
package builds

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// New returns the verbs.
func New(a *command.App) []*cobra.Command {
	return []*cobra.Command{newList(a), newInspect(a), newSteps(a), newLogs(a), newRemove(a)}
}

// last is what the newest build is called.
const last = "last"

// which names a build: by an argument, or the newest one.
type which struct{ last bool }

func (w *which) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.last, "last", false, "The newest build; so it is without BUILD")
}

func (w *which) of(args []string) (string, error) {
	switch {
	case len(args) == 0:
		return last, nil
	case w.last:
		return "", errors.New("conflicting options: cannot specify both BUILD and --last")
	}
	return args[0], nil
}

// shortID is an ID as tables have it.
func shortID(id string) string { return id[:min(12, len(id))] }
