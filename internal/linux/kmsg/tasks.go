package kmsg

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"
)

// taskTable is the table of processes that the kernel writes before it tells whom
// it has chosen (dump_tasks in mm/oom_kill.c). Its columns are named by its first
// line, since kernels differ in them.
type taskTable struct {
	open    bool
	columns []string  // between the pid and the name
	largest []OOMTask // the largest first
}

// take reads one line of the table.
func (t *taskTable) take(text string) {
	pid, rest, ok := strings.Cut(strings.TrimPrefix(text, "["), "]")
	if pid = strings.TrimSpace(pid); !ok {
		return
	}
	if pid == "pid" {
		if columns := strings.Fields(rest); len(columns) > 1 {
			t.columns = columns[:len(columns)-1]
		}
		return
	}
	task, ok := t.row(pid, rest)
	if !ok {
		return
	}
	i, _ := slices.BinarySearchFunc(t.largest, task, func(a, b OOMTask) int { return cmp.Compare(b.RSS+b.Swap, a.RSS+a.Swap) })
	t.largest = slices.Insert(t.largest, i, task)
	t.largest = t.largest[:min(len(t.largest), MaxLargest)]
}

// row reads what stands behind a pid. The name is the rest of the line: it may
// hold spaces.
func (t *taskTable) row(pid, rest string) (task OOMTask, ok bool) {
	if len(t.columns) == 0 {
		return OOMTask{}, false
	}
	var err error
	if task.PID, err = strconv.Atoi(pid); err != nil || task.PID <= 0 {
		return OOMTask{}, false
	}
	for _, column := range t.columns {
		var value string
		value, rest, _ = strings.Cut(strings.TrimLeft(rest, " "), " ")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return OOMTask{}, false
		}
		switch pages := uint64(max(n, 0)) & (1<<50 - 1); column {
		case "uid":
			task.UID = uint32(n)
		case "rss":
			task.RSS = pages * uint64(os.Getpagesize())
		case "swapents":
			task.Swap = pages * uint64(os.Getpagesize())
		case "oom_score_adj":
			task.ScoreAdj = int(n)
		}
	}
	task.Task = rest
	return task, true
}
