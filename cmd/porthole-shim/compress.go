package main

import (
	"os"
	"syscall"

	"github.com/portholehq/porthole/internal/crilog"
)

// compress compresses the old segments of the log whose directory is
// descriptor 3.
func compress([]string) int {
	nameProcess("porthole-log")
	// The container's own work goes first. A failure does no harm.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19)
	if err := crilog.CompressRotated(os.NewFile(3, "log dir")); err != nil {
		return complain("compress", err)
	}
	return 0
}
