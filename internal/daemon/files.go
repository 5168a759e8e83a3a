package daemon

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// How many open files a daemon needs for itself and for what it does at a time, and for each container that runs: it has 61
// when it has begun, and 19 more with each, measured on a hybrid host with eBPF.
const (
	ownFiles       = 100
	containerFiles = 20
	enoughFiles    = ownFiles + 300*containerFiles
)

// FileLimit is how many files this process may have open, and for how many containers that is enough, about. few tells
// that this is worth a word. Go has raised the limit as far as the hard one allows.
func FileLimit() (files, containers uint64, few bool) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, 0, false
	}
	return l.Max, (max(l.Max, ownFiles) - ownFiles) / containerFiles, l.Max < enoughFiles
}

// TellFileLimit logs it if it is low.
func TellFileLimit(log *slog.Logger) {
	if files, containers, few := FileLimit(); few {
		log.Warn("the hard limit of open files is low", "files", files, "containers", containers)
	}
}

// fileWarnings tell of a low limit as info shows it.
func fileWarnings() []string {
	files, containers, few := FileLimit()
	if !few {
		return nil
	}
	return []string{fmt.Sprintf("WARNING: The daemon can have no more than %d files open, enough for about %d containers: raise its hard limit (LimitNOFILE= of its unit)", files, containers)}
}
