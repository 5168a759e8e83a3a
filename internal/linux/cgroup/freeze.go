package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Freeze stops everything in app and returns once all of it stands still, or
// when ctx ends; in that case the group is thawed again. Freezing a frozen
// group does nothing.
func (g *Group) Freeze(ctx context.Context) error {
	if g.err != nil {
		return g.err
	}
	err := g.setFrozen(ctx, true)
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return errors.Join(fmt.Errorf("freeze cgroup %q: %w", g.path, err), g.Thaw(undo))
	}
	return nil
}

// Thaw lets a frozen app go on.
func (g *Group) Thaw(ctx context.Context) error {
	if g.err != nil {
		return g.err
	}
	if err := g.setFrozen(ctx, false); err != nil {
		return fmt.Errorf("thaw cgroup %q: %w", g.path, err)
	}
	return nil
}

func (g *Group) setFrozen(ctx context.Context, frozen bool) error {
	if g.tree.v2 != "" {
		return g.setFrozenV2(ctx, frozen)
	}
	return g.setFrozenV1(ctx, frozen)
}

func (g *Group) setFrozenV2(ctx context.Context, frozen bool) error {
	want := "0"
	if frozen {
		want = "1"
	}
	dir := g.Dir(App)
	if err := writeFile(filepath.Join(dir, "cgroup.freeze"), want); err != nil {
		return err
	}
	return waitEvents(ctx, dir, func(events map[string]string) bool { return events["frozen"] == want })
}

// setFrozenV1 writes the wish until the kernel has fulfilled it: a process that
// forks while the freezer walks over the group can keep it in FREEZING, and
// only a new FROZEN gets on (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).
func (g *Group) setFrozenV1(ctx context.Context, frozen bool) error {
	root, ok := g.tree.controller("freezer")
	if !ok {
		return &UnavailableError{Controller: "freezer", Mode: g.tree.mode}
	}
	want := "THAWED"
	if frozen {
		want = "FROZEN"
	}
	file := filepath.Join(g.dirV1(root, App), "freezer.state")
	for {
		if err := writeFile(file, want); err != nil {
			return err
		}
		state, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(state)) == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("still %s: %w", strings.TrimSpace(string(state)), context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Frozen tells whether app is frozen, by us or by anybody else.
func (g *Group) Frozen() (bool, error) {
	if g.err != nil {
		return false, g.err
	}
	if g.tree.v2 != "" {
		events, err := readEvents(g.Dir(App))
		return events["frozen"] == "1", err
	}
	root, ok := g.tree.controller("freezer")
	if !ok {
		return false, &UnavailableError{Controller: "freezer", Mode: g.tree.mode}
	}
	state, err := os.ReadFile(filepath.Join(g.dirV1(root, App), "freezer.state"))
	return strings.TrimSpace(string(state)) == "FROZEN", err
}

// Kill sends SIGKILL to everything in app and debug, frozen or not, and returns
// once nothing lives there any more or when ctx ends. The shim is spared. A
// group that does not exist has nothing alive in it.
func (g *Group) Kill(ctx context.Context) error {
	if g.err != nil {
		return g.err
	}
	for _, sub := range []Sub{App, Debug} {
		var err error
		if g.tree.v2 != "" {
			err = g.killV2(ctx, sub)
		} else {
			err = g.killV1(ctx, sub)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("kill cgroup %q: %w", g.path, err)
		}
	}
	return nil
}

// killV2 uses cgroup.kill, which catches processes that fork meanwhile (Linux 5.14).
func (g *Group) killV2(ctx context.Context, sub Sub) error {
	dir := g.Dir(sub)
	if err := writeFile(filepath.Join(dir, "cgroup.kill"), "1"); err != nil {
		return err
	}
	return waitEvents(ctx, dir, func(events map[string]string) bool { return events["populated"] == "0" })
}

// EndTools ends everything in debug and returns once nothing lives there any
// more or when ctx ends. Unlike after Kill, the group can be used again: Linux
// 6.14 and later kill what is cloned right into a group that was ever emptied by
// cgroup.kill, since it compares that group's count of kills with the one of the
// group that it comes from (kernel/cgroup/cgroup.c, cgroup_css_set_fork).
func (g *Group) EndTools(ctx context.Context) error {
	if g.err != nil {
		return g.err
	}
	if g.tree.v2 == "" {
		return ignoreMissing(g.killV1(ctx, Debug))
	}
	freeze := filepath.Join(g.Dir(Debug), "cgroup.freeze")
	switch pids, err := cgroups.GetAllPids(g.Dir(Debug)); {
	case err != nil:
		return ignoreMissing(err)
	case len(pids) == 0:
		// Who was killed between freezing and thawing has left it frozen.
		return ignoreMissing(writeFile(freeze, "0"))
	}
	// So that nothing forks meanwhile. What is frozen can be killed.
	if err := writeFile(freeze, "1"); err != nil {
		return ignoreMissing(err)
	}
	err := g.killV1(ctx, Debug)
	return ignoreMissing(errors.Join(err, writeFile(freeze, "0")))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// killV1 freezes the group, so that nothing forks meanwhile, signals every
// process and thaws it, until it is empty.
func (g *Group) killV1(ctx context.Context, sub Sub) error {
	dir := g.processDir(sub)
	for {
		pids, err := cgroups.GetAllPids(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		if sub == App {
			// A freezer that does not get there in time must not keep us from killing.
			freeze, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			_ = g.setFrozen(freeze, true)
			cancel()
		}
		if pids, err = cgroups.GetAllPids(dir); err != nil {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		if sub == App {
			if err := g.setFrozen(ctx, false); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until it is empty: %w", context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Pids returns the processes in app and the groups below it, in ascending order.
func (g *Group) Pids() ([]int, error) {
	if g.err != nil {
		return nil, g.err
	}
	pids, err := cgroups.GetAllPids(g.processDir(App))
	if err != nil {
		return nil, fmt.Errorf("list processes of cgroup %q: %w", g.path, err)
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// processDir returns the directory whose cgroup.procs tells what is in a
// sub-group.
func (g *Group) processDir(sub Sub) string {
	if g.tree.v2 != "" {
		return g.Dir(sub)
	}
	for _, name := range []string{"devices", "freezer", "pids", "memory"} {
		if root, ok := g.tree.controller(name); ok {
			return g.dirV1(root, sub)
		}
	}
	return g.dirV1(g.tree.v1[0].dir, sub)
}

// readEvents reads cgroup.events of a v2 group.
func readEvents(dir string) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return nil, err
	}
	return parseEvents(text), nil
}

func parseEvents(text []byte) map[string]string {
	events := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		events[key] = value
	}
	return events
}

// waitEvents waits until cgroup.events of a v2 group is as wanted. The kernel
// reports a change of that file as POLLPRI; the timeout only serves to look at
// ctx.
func waitEvents(ctx context.Context, dir string, done func(map[string]string) bool) error {
	file, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return err
	}
	defer file.Close()
	for {
		// The read comes first: it also acknowledges the changes up to now.
		buffer := make([]byte, 256)
		n, err := file.ReadAt(buffer, 0)
		if n == 0 && err != nil {
			return err
		}
		if done(parseEvents(buffer[:n])) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for %q: %w", file.Name(), context.Cause(ctx))
		}
		poll := []unix.PollFd{{Fd: int32(file.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(poll, 20); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll %q: %w", file.Name(), err)
		}
	}
}
