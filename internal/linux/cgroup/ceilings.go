package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/portholehq/porthole/internal/linux/procfile"
)

// Ceiling is a limit as it counts for a process: the lowest of those of its group
// and of the groups around it.
type Ceiling struct {
	// Name is memory, memory+swap, swap, memory.high, cpu or pids.
	Name string
	// Value is in bytes, in thousandths of a processor (cpu), or a number; nil: none of
	// the groups has a limit.
	Value *uint64
	// From is the group whose limit that is.
	From string
	// Use is how much of it the group that it stands for takes; nil: not known.
	Use *uint64
	// Levels are the groups that have a limit, the innermost first.
	Levels []Level
}

// Level is the limit of one group.
type Level struct {
	Group string // from the root of its hierarchy
	Value uint64
}

// ceiling says where a limit is written.
type ceiling struct {
	name         string
	v2, v1, ofV1 string // the files, and the v1 controller; empty: there is none
	useV2, useV1 string
	read         func(dir, file string) (value uint64, limited bool, err error)
}

var ceilings = []ceiling{
	{name: "memory", v2: "memory.max", useV2: "memory.current", v1: "memory.limit_in_bytes", useV1: "memory.usage_in_bytes", ofV1: "memory", read: readNumber},
	{name: "memory.high", v2: "memory.high", useV2: "memory.current", read: readNumber},
	{name: "swap", v2: "memory.swap.max", useV2: "memory.swap.current", read: readNumber},
	{name: "memory+swap", v1: "memory.memsw.limit_in_bytes", useV1: "memory.memsw.usage_in_bytes", ofV1: "memory", read: readNumber},
	{name: "cpu", v2: "cpu.max", v1: "cpu.cfs_quota_us", ofV1: "cpu", read: readProcessors},
	{name: "pids", v2: "pids.max", useV2: "pids.current", v1: "pids.max", useV1: "pids.current", ofV1: "pids", read: readNumber},
}

// Ceilings tells which limits count for a process. Groups above the root of this
// process's cgroup namespace cannot be seen.
func Ceilings(pid int) ([]Ceiling, error) {
	tree, err := Current()
	if err != nil {
		return nil, err
	}
	text, err := procfile.Read(fmt.Sprintf("/proc/%d/cgroup", pid), procfile.Longest)
	if err != nil {
		return nil, err
	}
	groups := parseGroups(string(text))
	var list []Ceiling
	for _, c := range ceilings {
		root, group, file, use := tree.v2, groups[""], c.v2, c.useV2
		if c.ofV1 != "" {
			if dir, ok := tree.controller(c.ofV1); ok {
				root, group, file, use = dir, groups[c.ofV1], c.v1, c.useV1
			}
		}
		if root == "" || file == "" || group == "" || strings.HasPrefix(group, "/..") {
			continue
		}
		one, known, err := c.climb(root, group, file, use)
		if err != nil {
			return nil, err
		}
		if known {
			list = append(list, one)
		}
	}
	return list, nil
}

// parseGroups reads /proc/PID/cgroup, see cgroups(7): the group of each v1
// controller, and that of the v2 tree by the empty name.
func parseGroups(text string) map[string]string {
	groups := map[string]string{}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) < 3 {
			continue
		}
		for name := range strings.SplitSeq(f[1], ",") {
			groups[name] = f[2]
		}
	}
	return groups
}

// climb reads a limit from a group up to the root. known is false if no group has
// such a file: then the controller is not there.
func (c *ceiling) climb(root, group, file, use string) (one Ceiling, known bool, err error) {
	one.Name = c.name
	for at := filepath.Clean(group); ; at = filepath.Dir(at) {
		dir := filepath.Join(root, at)
		value, limited, err := c.read(dir, file)
		switch {
		case errors.Is(err, fs.ErrNotExist): // the root of a hierarchy has no limits
		case err != nil:
			return one, false, err
		default:
			known = true
		}
		if limited {
			one.Levels = append(one.Levels, Level{at, value})
			if one.Value == nil || value < *one.Value {
				one.Value, one.From = &value, at
			}
		}
		if at == "/" {
			break
		}
	}
	if from := one.From; use != "" {
		if from == "" {
			from = group
		}
		if n, _, err := readNumber(filepath.Join(root, from), use); err == nil {
			one.Use = &n
		}
	}
	return one, known, nil
}

// unlimited is what v1 shows for no limit, less than a page below the largest
// number of its kind (mm/page_counter.c); nobody has an exbibyte.
const unlimited = 1 << 60

func readNumber(dir, file string) (n uint64, limited bool, err error) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, false, err
	}
	word := strings.TrimSpace(string(text))
	if word == "max" {
		return 0, false, nil
	}
	n, err = strconv.ParseUint(word, 10, 64)
	return n, err == nil && n < unlimited, err
}

// readProcessors reads a quota over its period, in thousandths of a processor.
func readProcessors(dir, file string) (n uint64, limited bool, err error) {
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0, false, err
	}
	words := strings.Fields(string(text))
	if file == "cpu.cfs_quota_us" {
		period, err := os.ReadFile(filepath.Join(dir, "cpu.cfs_period_us"))
		if err != nil {
			return 0, false, err
		}
		words = append(words, strings.TrimSpace(string(period)))
	}
	if len(words) != 2 {
		return 0, false, fmt.Errorf("%s in %s holds %q", file, dir, text)
	}
	if words[0] == "max" || words[0] == "-1" {
		return 0, false, nil
	}
	quota, err := strconv.ParseUint(words[0], 10, 64)
	if err != nil {
		return 0, false, err
	}
	period, err := strconv.ParseUint(words[1], 10, 64)
	if err != nil || period == 0 {
		return 0, false, err
	}
	return quota * 1000 / period, true, nil
}
