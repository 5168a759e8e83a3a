package engine

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/portholehq/porthole/internal/linux/kmsg"
	"github.com/portholehq/porthole/internal/linux/procfile"
	"github.com/portholehq/porthole/internal/record/death"
)

const (
	// oomLeftWithin is how old a kill may be for those that are left to tell anything of it.
	oomLeftWithin = time.Second
	// oomLeftMost is how many processes are asked how much they hold.
	oomLeftMost = 500
	// statusMost is more than /proc/PID/status has.
	statusMost = 16 << 10
)

// largestLeft names the processes of a task that hold most, but for the victim: what can be known of a kill for which the
// kernel has not listed them.
func largestLeft(task Task, kill death.OOMKill) []death.OOMTask {
	pids, err := task.Pids()
	if err != nil {
		return nil // it ends
	}
	var list []death.OOMTask
	for _, pid := range pids[:min(len(pids), oomLeftMost)] {
		text, err := procfile.Read(fmt.Sprintf("/proc/%d/status", pid), statusMost)
		if err != nil {
			continue // it has ended
		}
		// The victim has lost its memory, or is about to.
		if t := statusTask(text); t.RSS+t.Swap > 0 && (pid != kill.PID || t.Task != kill.Task) {
			t.PID = pid
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b death.OOMTask) int { return cmp.Compare(b.RSS+b.Swap, a.RSS+a.Swap) })
	return list[:min(len(list), kmsg.MaxLargest)]
}

// statusTask reads what /proc/PID/status tells of a process's memory (proc_pid_status(5)).
func statusTask(text []byte) (t death.OOMTask) {
	for line := range bytes.Lines(text) {
		key, value, _ := bytes.Cut(line, []byte{':'})
		fields := bytes.Fields(value)
		if len(fields) == 0 {
			continue
		}
		n, _ := strconv.ParseUint(string(fields[0]), 10, 54) // zero where it is no number
		switch string(key) {
		case "Name":
			t.Task = string(bytes.TrimSpace(value))
		case "Uid":
			t.UID = uint32(n)
		case "VmRSS":
			t.RSS = n << 10
		case "VmSwap":
			t.Swap = n << 10
		}
	}
	return t
}

// ContainerOOMKills are the processes of a container's present or last run that the kernel was seen to kill for want of
// memory, the newest last.
func (e *Engine) ContainerOOMKills(ref string) ([]death.OOMKill, error) {
	c, err := e.lookUp(ref)
	if err != nil {
		return nil, err
	}
	return c.kills.all(), nil
}
