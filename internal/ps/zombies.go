package ps

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// WithZombies adds to pids the children of theirs that have ended and were not waited for: a cgroup does not list them
// any more. They have no children themselves, so one look is enough.
func WithZombies(proc string, pids []int) []int {
	known := map[int]bool{}
	for _, pid := range pids {
		known[pid] = true
	}
	all := slices.Clone(pids)
	for _, pid := range pids {
		for _, child := range childrenOf(proc, pid) {
			if known[child] {
				continue
			}
			known[child] = true
			p, err := readProcess(filepath.Join(proc, strconv.Itoa(child)), child, 0)
			if err == nil && p.state == 'Z' {
				all = append(all, child)
			}
		}
	}
	return all
}

// childrenOf reads /proc/PID/task/*/children. What has ended meanwhile has none.
func childrenOf(proc string, pid int) []int {
	files, err := filepath.Glob(filepath.Join(proc, strconv.Itoa(pid), "task", "*", "children"))
	if err != nil {
		return nil
	}
	var list []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for word := range strings.FieldsSeq(string(b)) {
			if child, err := strconv.Atoi(word); err == nil {
				list = append(list, child)
			}
		}
	}
	return list
}
