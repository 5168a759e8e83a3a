package look

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/linux/procfile"
)

// descriptor is what /proc tells of one descriptor of a process.
type descriptor struct {
	api.Holder
	link string // what it refers to, as "/etc/hosts", "socket:[17]", "anon_inode:[eventpoll]"
}

// inode is the number in "socket:[17]" of a kind; ok is false if it is no such.
func (d *descriptor) inode(kind string) (n uint64, ok bool) {
	text, ok := strings.CutPrefix(d.link, kind+":[")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
	return n, err == nil
}

// maxDescriptors bounds what is read of one container.
const maxDescriptors = 50_000

// descriptors lists what processes have open, without opening any of it. The links
// are the kernel's own: reading one waits for no process and no filesystem. Of a
// process that ends meanwhile some may be missing.
func descriptors(pids []int) (list []descriptor, unknown []string) {
	for _, pid := range pids {
		proc := "/proc/" + strconv.Itoa(pid)
		holder, ok := holderOf(pid)
		if !ok {
			continue // it has ended
		}
		dir, err := os.Open(proc + "/fd")
		if err != nil {
			continue
		}
		names, err := dir.Readdirnames(-1)
		dir.Close()
		if err != nil {
			continue
		}
		fds := make([]int, 0, len(names))
		for _, n := range names {
			if fd, err := strconv.Atoi(n); err == nil {
				fds = append(fds, fd)
			}
		}
		slices.Sort(fds)
		for _, fd := range fds {
			link, err := os.Readlink(proc + "/fd/" + strconv.Itoa(fd))
			if err != nil {
				continue // closed
			}
			if len(list) == maxDescriptors {
				return list, append(unknown, fmt.Sprintf("only the first %d open descriptors were looked at", maxDescriptors))
			}
			holder.FD = fd
			list = append(list, descriptor{holder, link})
		}
	}
	return list, unknown
}

// holderOf names a process by what the kernel knows of it without its memory.
func holderOf(pid int) (h api.Holder, ok bool) {
	text, err := procfile.Read("/proc/"+strconv.Itoa(pid)+"/status", procfile.Longest)
	if err != nil {
		return h, false
	}
	h = api.Holder{HostPID: pid, PID: pid}
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Name":
			h.Name = value
		case "NSpid":
			if f := strings.Fields(value); len(f) > 0 {
				if n, err := strconv.Atoi(f[len(f)-1]); err == nil {
					h.PID = n
				}
			}
		}
	}
	return h, true
}

// describe tells what a descriptor, or another link of procfs, refers to. It asks
// the kernel's memory alone, and no server of a filesystem, which may not answer
// (AT_STATX_DONT_SYNC, see statx(2)).
func describe(path string) (st unix.Statx_t, err error) {
	err = unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE|unix.STATX_SIZE|unix.STATX_INO|unix.STATX_NLINK|unix.STATX_BLOCKS, &st)
	return st, err
}
