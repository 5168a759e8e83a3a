package containers

import (
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli/command"
)

// NewGroup returns "container" with the verbs of this package.
func NewGroup(a *command.App) *cobra.Command {
	return command.Group(a, "container", "Manage containers",
		NewAttach(a), NewCommit(a), NewCp(a), NewCreate(a), NewDeaths(a), NewDebug(a), NewDiff(a), NewExec(a), NewExport(a), NewFiles(a), NewHealth(a), newInspect(a),
		NewKill(a), NewLogs(a), NewMounts(a),
		command.Also(NewPs(a), "ls [OPTIONS]", "ps", "list"),
		NewPause(a), NewPort(a), newPrune(a), NewRename(a), NewRestart(a),
		command.Also(NewRm(a), "", "remove"),
		NewRun(a), NewSockets(a), NewStart(a), NewStats(a), NewStop(a), NewTimeline(a), NewTop(a), NewTrace(a), NewUnpause(a), NewUpdate(a), NewWait(a), NewWatch(a), NewWhy(a),
	)
}
