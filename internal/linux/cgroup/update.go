package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// limitFile is one file that holds a limit, and what it says.
type limitFile struct {
	path, text string
}

// A limitName is a file by its name; the controller says in which of v1's hierarchies it is.
type limitName struct{ controller, name string }

// The files of the limits that [Group.Update] may change, in the order in which
// its undo writes them.
var (
	limitsV1 = []limitName{
		{"memory", "memory.limit_in_bytes"},
		{"memory", "memory.memsw.limit_in_bytes"},
		{"memory", "memory.soft_limit_in_bytes"},
		{"cpu", "cpu.cfs_period_us"},
		{"cpu", "cpu.cfs_quota_us"},
		{"cpu", "cpu.shares"},
		{"cpu", "cpu.rt_period_us"},
		{"cpu", "cpu.rt_runtime_us"},
		{"cpuset", "cpuset.cpus"},
		{"cpuset", "cpuset.mems"},
		{"pids", "pids.max"},
		{"blkio", "blkio.weight"},
		{"blkio", "blkio.bfq.weight"},
	}
	limitsV2 = []limitName{
		{"", "memory.max"},
		{"", "memory.swap.max"},
		{"", "memory.low"},
		{"", "cpu.max"},
		{"", "cpu.weight"},
		{"", "cpuset.cpus"},
		{"", "cpuset.mems"},
		{"", "pids.max"},
		{"", "io.weight"},
		{"", "io.bfq.weight"},
	}
)

// Update is Set for a group in which processes run: all limits are changed or none. It returns how to take that back,
// which may be called once, and warns of limits that the kernel has made something else of.
func (g *Group) Update(r *Resources) (undo func() error, list []Warning, err error) {
	before, err := g.limits()
	if err != nil {
		return nil, nil, err
	}
	undo = func() error { return restoreLimits(before) }
	list, err = g.Set(r)
	if err != nil {
		if back := undo(); back != nil {
			err = errors.Join(err, fmt.Errorf("set limits back: %w", back))
		}
		return nil, nil, err
	}
	now, err := g.limits()
	if err != nil {
		return nil, nil, errors.Join(err, undo())
	}
	return undo, append(list, g.deviations(r, now)...), nil
}

// limits reads those that the host has.
func (g *Group) limits() ([]limitFile, error) {
	if g.err != nil {
		return nil, g.err
	}
	names := limitsV1
	if g.tree.mode == V2 {
		names = limitsV2
	}
	var list []limitFile
	for _, f := range names {
		dir := g.Dir(App)
		if f.controller != "" {
			root, ok := g.tree.controller(f.controller)
			if !ok {
				continue
			}
			dir = g.dirV1(root, App)
		}
		path := filepath.Join(dir, f.name)
		text, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, fmt.Errorf("read limits of cgroup %q: %w", g.path, err)
		}
		list = append(list, limitFile{path, string(bytes.TrimSpace(text))})
	}
	return list, nil
}

// restoreLimits writes what is different now. Some limits bound one another, so that a file may have to wait for
// another: it goes on as long as that gets it further.
func restoreLimits(list []limitFile) error {
	for {
		var errs []error
		written := false
		for _, f := range list {
			if text, err := os.ReadFile(f.path); err == nil && string(bytes.TrimSpace(text)) == f.text {
				continue
			}
			text := f.text
			if strings.HasSuffix(f.path, ".weight") { // lines of devices may follow
				text, _, _ = strings.Cut(strings.TrimPrefix(text, "default "), "\n")
			}
			if text == "" {
				text = "\n" // an empty write would be none
			}
			if err := writeFile(f.path, text); err != nil {
				errs = append(errs, err)
				continue
			}
			written = true
		}
		if len(errs) == 0 || !written {
			return errors.Join(errs...)
		}
	}
}

// deviations tells which limits are not what was asked for.
func (g *Group) deviations(r *Resources, now []limitFile) []Warning {
	var list []Warning
	check := func(what, v1, v2 string, wanted int64, part int, slack int64) {
		name := v1
		if g.tree.mode == V2 {
			name = v2
		}
		for _, f := range now {
			if filepath.Base(f.path) != name || name == "" {
				continue
			}
			words := strings.Fields(f.text)
			if part >= len(words) {
				continue
			}
			got, err := strconv.ParseInt(words[part], 10, 64)
			if err == nil && (got > wanted+slack || got < wanted-slack) {
				list = append(list, Warning(fmt.Sprintf("The kernel has made %d of the %s %d.", got, what, wanted)))
			}
		}
	}
	page := int64(os.Getpagesize())
	part := 0 // where the period stands
	if g.tree.mode == V2 {
		part = 1
	}
	if m := r.Memory; m != nil {
		if limit := value(m.Limit); limit > 0 {
			check("memory limit", "memory.limit_in_bytes", "memory.max", limit, 0, page)
		}
		if limit := value(m.Swap); limit > 0 {
			check("limit of memory and swap", "memory.memsw.limit_in_bytes", "", limit, 0, page)
		}
		if limit := value(m.Reservation); limit > 0 {
			check("memory reservation", "memory.soft_limit_in_bytes", "memory.low", limit, 0, page)
		}
	}
	if c := r.CPU; c != nil {
		if v := value(c.Shares); v > 0 {
			check("CPU shares", "cpu.shares", "", int64(v), 0, 0)
		}
		if v := value(c.Quota); v > 0 {
			check("CPU quota", "cpu.cfs_quota_us", "cpu.max", v, 0, 0)
		}
		if v := value(c.Period); v > 0 {
			check("CPU period", "cpu.cfs_period_us", "cpu.max", int64(v), part, 0)
		}
	}
	if r.Pids != nil && value(r.Pids.Limit) > 0 {
		check("pids limit", "pids.max", "pids.max", *r.Pids.Limit, 0, 0)
	}
	return list
}
