package bed

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// panics are lines of a daemon's log that end it, or would have ended it, and what the
// race detector in a shim says: that cannot be told to report elsewhere.
var panics = regexp.MustCompile(`(?m)^(?:panic: |fatal error: ).*$|^.*(?:request panicked|panic serving).*$|^WARNING: DATA RACE$(?s:.*?)^={18}$`)

// Panics returns the lines that tell of a panic in the daemon's log, and the reports of
// races in shims, but for its first bytes.
func (d *Daemon) Panics(first int) []string {
	log := d.LogTail(1 << 30)
	return panics.FindAllString(log[min(first, len(log)):], -1)
}

// Shim is the process id of a running container's shim: the parent of its first process.
func (d *Daemon) Shim(t *testing.T, name string) int {
	t.Helper()
	text, err := d.Porthole(t.Context(), "inspect", "-f", "{{.State.Pid}}", name)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return Parent(t, pid)
}

// Parent is the process id of a process's parent.
func Parent(t *testing.T, pid int) int {
	t.Helper()
	parent, err := strconv.Atoi(Stat(t, pid)[1])
	if err != nil {
		t.Fatal(err)
	}
	return parent
}

// Stat returns what /proc/PID/stat has behind the name, from the state on: the third
// field in proc_pid_stat(5) is the first.
func Stat(t *testing.T, pid int) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}
