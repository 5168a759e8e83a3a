// Package holders finds the processes that keep a mount from being unmounted: by
// a working directory, a root, an open file or a mapped one that is on it, or by
// a mount of their own beneath it.
//
//	held, err := holders.Unmount(ctx, dir)
//	for _, h := range held {
//		fmt.Println(h) // tail (pid 17): open file 3, /srv/data/log
//	}
//
// What is on the mount is told from its number in /proc; no file of it is looked
// into, since its server or disk may not answer.
package holders

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/patient"
)

const (
	// longest is how long a search takes at most, and patience how long it waits for one process.
	longest  = 3 * time.Second
	patience = 300 * time.Millisecond
	// maxHolders are named.
	maxHolders = 8
)

// Holder is a process that keeps a mount.
type Holder struct {
	PID     int // 0: no process, but a mount beneath it
	Command string
	Group   string // its control group, with the longest path of all hierarchies
	Use     string // what it has there: "working directory", "root directory", "open file 3", "mapped file", "mount"
	Path    string // of that, as the caller of this package names it, if it is in its mount namespace
}

// String tells who holds what.
func (h Holder) String() string {
	if h.PID == 0 {
		return h.Use + " at " + printable(h.Path)
	}
	return fmt.Sprintf("%s (pid %d): %s, %s", printable(h.Command), h.PID, h.Use, printable(h.Path))
}

// Text is holders in one line.
func Text(list []Holder) string {
	if len(list) == 0 {
		return "nobody who could be found"
	}
	var words []string
	for _, h := range list {
		words = append(words, h.String())
	}
	return strings.Join(words, "; ")
}

// Unmount unmounts what is mounted on a directory, without following a link. If
// it is in use, those that are found to use it are returned, the mount is
// detached, and its file system lives on until the last of them has let it go.
// Busy tells whether that was so: it may be that nobody is found.
func Unmount(ctx context.Context, dir string) (held []Holder, busy bool, err error) {
	err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
	if !errors.Is(err, unix.EBUSY) {
		return nil, false, os.NewSyscallError("umount", err)
	}
	if id, e := mountID(unix.AT_FDCWD, dir); e == nil {
		held = Of(ctx, id, dir)
	}
	err = unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	return held, true, os.NewSyscallError("umount", err)
}

// Of finds who holds a mount, by its number as statx(2) has it, and the place
// where the caller's mount namespace has it, empty if it is in another one. The
// caller itself is left out. At most 8 are returned, each process once.
func Of(ctx context.Context, mount uint64, point string) []Holder {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	list := beneath(mount)
	pids, err := processes()
	if err != nil {
		return list
	}
	for _, pid := range pids {
		if ctx.Err() != nil || len(list) >= maxHolders {
			break
		}
		if pid == os.Getpid() {
			continue
		}
		h, err := patient.Within(ctx, fmt.Sprintf("holder %d", pid), patience, func() (*Holder, error) { return look(pid, mount, point), nil })
		if err == nil && h != nil {
			list = append(list, *h)
		}
	}
	return list
}

// processes are the numbers of all, in order.
func processes() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// beneath are the mounts on a mount, in the caller's namespace.
func beneath(mount uint64) []Holder {
	table, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return uint64(m.Parent) != mount, false })
	if err != nil {
		return nil
	}
	var list []Holder
	for _, m := range table[:min(len(table), maxHolders)] {
		list = append(list, Holder{Use: "mount", Path: m.Mountpoint})
	}
	return list
}

// look tells what a process has on a mount; nil: nothing.
func look(pid int, mount uint64, point string) *Holder {
	dir := "/proc/" + strconv.Itoa(pid)
	use, path := uses(dir, mount, point)
	if use == "" {
		return nil
	}
	h := &Holder{PID: pid, Use: use, Path: path, Group: group(dir + "/cgroup")}
	if comm, err := os.ReadFile(dir + "/comm"); err == nil {
		h.Command = strings.TrimSpace(string(comm))
	}
	return h
}

func uses(dir string, mount uint64, point string) (use, path string) {
	for link, use := range map[string]string{"cwd": "working directory", "root": "root directory"} {
		link = filepath.Join(dir, link)
		if id, err := mountID(unix.AT_FDCWD, link); err == nil && id == mount {
			return use, target(link)
		}
	}
	if fd := openFile(dir, mount); fd != "" {
		return "open file " + fd, target(filepath.Join(dir, "fd", fd))
	}
	if name := mapped(dir+"/maps", point); name != "" {
		return "mapped file", name
	}
	return "", ""
}

// openFile is a descriptor of a file on a mount; empty: there is none. fdinfo tells without a look at the file.
func openFile(dir string, mount uint64) string {
	infos, err := os.Open(dir + "/fdinfo")
	if err != nil {
		return ""
	}
	defer infos.Close()
	names, err := infos.Readdirnames(-1)
	if err != nil {
		return ""
	}
	want := fmt.Appendf(nil, "mnt_id:\t%d\n", mount)
	for _, name := range names {
		if text, err := beginning(filepath.Join(infos.Name(), name)); err == nil && bytes.Contains(text, want) {
			return name
		}
	}
	return ""
}

// beginning is what a file of fdinfo has in front: pos, flags and mnt_id. Some have a line for each of many thousands
// of things behind.
func beginning(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := make([]byte, 256)
	n, err := f.Read(text)
	return text[:n], err
}

// mapped is a mapped file below a directory; empty: there is none.
func mapped(path, point string) string {
	f, err := os.Open(path)
	if err != nil || point == "" {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// ADDRESSES MODE OFFSET DEVICE INODE PATH
		if at := strings.Index(lines.Text(), " "+strings.TrimSuffix(point, "/")+"/"); at >= 0 {
			return lines.Text()[at+1:]
		}
	}
	return ""
}

// mountID is the number of the mount that a file is on. Its file system is not asked for anything.
func mountID(at int, path string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(at, path, unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return 0, os.NewSyscallError("statx", err)
	}
	return st.Mnt_id, nil
}

func target(link string) string {
	name, err := os.Readlink(link)
	if err != nil {
		return ""
	}
	return name
}

// group is the longest path of those in a cgroup file.
func group(path string) (longest string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && len(f[2]) > len(longest) {
			longest = f[2]
		}
	}
	return longest
}

// printable quotes what would not show.
func printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
