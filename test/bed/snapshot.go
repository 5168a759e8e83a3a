package bed

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Snapshot is everything in the world that somebody could leave behind.
type Snapshot struct {
	Processes  []string // with arguments, but for the tests' own
	Mounts     []string
	Interfaces []string
	Cgroups    []string // below the daemon's parent
	Files      []string // of containers, in data root and exec root
	FDs        int      // of the daemon
	Goroutines int      // of the daemon
}

// Snapshot tells what there is now.
func (d *Daemon) Snapshot() (Snapshot, error) {
	var s Snapshot
	err := d.awaitWatch()
	if err != nil {
		return s, err
	}
	if s.Processes, err = processes(); err != nil {
		return s, err
	}
	if s.Mounts, err = mounts(); err != nil {
		return s, err
	}
	links, err := net.Interfaces()
	if err != nil {
		return s, err
	}
	for _, l := range links {
		s.Interfaces = append(s.Interfaces, l.Name)
	}
	for _, dir := range cgroupDirs(d.CgroupParent) {
		s.Cgroups = append(s.Cgroups, below(dir)...)
	}
	for _, dir := range []string{
		filepath.Join(d.DataRoot(), "containers"), filepath.Join(d.DataRoot(), "volumes"), d.ExecRoot(),
		filepath.Join(d.DataRoot(), "network", "leases"), filepath.Join(d.DataRoot(), "network", "networks"),
		filepath.Join(d.DataRoot(), "network", "sandboxes"),
	} {
		s.Files = append(s.Files, entries(dir)...)
	}
	s.Files = append(s.Files, d.snapshotDirs()...)
	if pid := d.Pid(); pid != 0 {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return s, err
		}
		s.FDs = len(fds)
		if s.Goroutines, err = d.Goroutines(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// snapshotDirs are the directories of the overlay snapshotter.
func (d *Daemon) snapshotDirs() []string {
	found, _ := filepath.Glob(filepath.Join(d.DataRoot(), "images", "*", "snapshots", "*"))
	more, _ := filepath.Glob(filepath.Join(d.DataRoot(), "images", "snapshots", "*"))
	return append(found, more...)
}

// Differences says what b has that a had not. Descriptors and goroutines may
// vary by slack, since idle connections and timers come and go.
func Differences(a, b Snapshot, slack int) (diff []string) {
	for _, part := range []struct {
		what          string
		before, after []string
	}{
		{"process", a.Processes, b.Processes},
		{"mount", a.Mounts, b.Mounts},
		{"interface", a.Interfaces, b.Interfaces},
		{"cgroup", a.Cgroups, b.Cgroups},
		{"file", a.Files, b.Files},
	} {
		for _, x := range surplus(part.before, part.after) {
			diff = append(diff, part.what+" "+x+" is left")
		}
	}
	if b.FDs > a.FDs+slack {
		diff = append(diff, fmt.Sprintf("the daemon has %d descriptors, had %d", b.FDs, a.FDs))
	}
	if b.Goroutines > a.Goroutines+slack {
		diff = append(diff, fmt.Sprintf("the daemon has %d goroutines, had %d", b.Goroutines, a.Goroutines))
	}
	return diff
}

// surplus returns the elements of after that before has not, each as often as
// it is too many.
func surplus(before, after []string) (more []string) {
	had := make(map[string]int)
	for _, x := range before {
		had[x]++
	}
	for _, x := range after {
		if had[x]--; had[x] < 0 {
			more = append(more, x)
		}
	}
	return more
}

// Settled waits until nothing is left that was not there at before, and returns
// what still is when ctx ends.
func (d *Daemon) Settled(ctx context.Context, before Snapshot, slack int) ([]string, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := d.Snapshot()
		if err != nil {
			return nil, err
		}
		diff := Differences(before, now, slack)
		if len(diff) == 0 {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return diff, nil
		case <-tick.C:
		}
	}
}

// processes returns the names and arguments of all processes in our pid namespace that have
// ended up somewhere, leaving out the tests and what they run at the moment:
// everything with our own session, but not the daemon's children.
func processes() (names []string, err error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	own, err := unix.Getsid(0)
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(dir.Name())
		if err != nil || pid == 1 {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", dir.Name(), "stat"))
		if err != nil { // it has ended meanwhile
			continue
		}
		name, sid, kernel := parseStat(string(stat))
		if kernel || sid == own {
			continue
		}
		// Arguments tell processes of one name apart; kernel threads and zombies
		// have none.
		args, _ := os.ReadFile(filepath.Join("/proc", dir.Name(), "cmdline"))
		names = append(names, strings.TrimSpace(name+" "+strings.ReplaceAll(string(args), "\x00", " ")))
	}
	slices.Sort(names)
	return withoutHelpers(names), nil
}

// withoutHelpers leaves out the daemon's forker, which is started with the first
// container and ends with the daemon, and its keeper, which is started with the
// first port or name and ends a while after the last one. A second one of either
// is a leftover.
func withoutHelpers(names []string) []string {
	for _, helper := range []string{"porthole-forker", "porthole-keeper"} {
		i := slices.IndexFunc(names, func(s string) bool { return strings.Contains(s, helper) })
		if i >= 0 {
			names = slices.Delete(names, i, i+1)
		}
	}
	return names
}

// parseStat reads name and session out of /proc/PID/stat, see proc(5). The
// name may have spaces and parentheses in it.
func parseStat(s string) (name string, sid int, kernel bool) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || end < open {
		return "?", 0, false
	}
	f := strings.Fields(s[end+1:])
	if len(f) < 7 {
		return "?", 0, false
	}
	sid, _ = strconv.Atoi(f[3])
	flags, _ := strconv.ParseUint(f[6], 10, 64)
	const kthread = 0x00200000 // PF_KTHREAD of the kernel's sched.h
	return s[open+1 : end], sid, flags&kthread != 0
}

// mounts returns mount points with type and source.
func mounts() (all []string, err error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		rest := strings.SplitN(line, " - ", 2)
		if len(f) < 5 || len(rest) < 2 {
			return nil, fmt.Errorf("unexpected line in mountinfo: %q", line)
		}
		kind := strings.Fields(rest[1])
		all = append(all, f[4]+" ("+kind[0]+")")
	}
	return all, nil
}

// cgroupDirs returns the directories of a cgroup in all mounted hierarchies.
func cgroupDirs(parent string) (dirs []string) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		rest := strings.SplitN(line, " - ", 2)
		if len(f) < 5 || len(rest) < 2 {
			continue
		}
		if kind := strings.Fields(rest[1])[0]; kind == "cgroup" || kind == "cgroup2" {
			if dir := filepath.Join(f[4], parent); exists(dir) && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// below returns all directories below dir, without dir itself.
func below(dir string) (all []string) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && path != dir {
			all = append(all, path)
		}
		return nil // what went meanwhile is not there
	})
	return all
}

// entries returns what is directly in dir, with its path.
func entries(dir string) (all []string) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		// Of the keeper, see withoutHelpers, and the tools of debug sessions, which are unpacked once.
		if e.Name() == "keeper.sock" || strings.HasPrefix(e.Name(), "tools-") {
			continue
		}
		all = append(all, filepath.Join(dir, e.Name()))
	}
	return all
}

// killAll kills what runs below a cgroup and removes it. It reports whether all
// of it is gone.
func killAll(parent string) bool {
	gone := true
	for _, dir := range cgroupDirs(parent) {
		all := append(below(dir), dir)
		slices.Reverse(all)
		// Children come before their parents now, but for dir, which is first.
		all = append(all[1:], all[0])
		for _, d := range all {
			data, _ := os.ReadFile(filepath.Join(d, "cgroup.procs"))
			for pid := range strings.FieldsSeq(string(data)) {
				if n, err := strconv.Atoi(pid); err == nil && n > 1 {
					_ = unix.Kill(n, unix.SIGKILL)
				}
			}
			if err := unix.Rmdir(d); err != nil && exists(d) {
				gone = false
			}
		}
	}
	return gone
}

// unmountBelow takes away all mounts below dir.
func unmountBelow(dir string) error {
	all, err := mounts()
	if err != nil {
		return err
	}
	slices.Reverse(all)
	for _, m := range all {
		path, _, _ := strings.Cut(m, " (")
		if strings.HasPrefix(path, dir+"/") {
			if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", path, err)
			}
		}
	}
	return nil
}
