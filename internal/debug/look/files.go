package look

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/linux/procfile"
)

// deletedMark is what the kernel puts behind the path of a file that has no name.
const deletedMark = " (deleted)"

// Files tells what files the processes of a container have open, and, with mapped,
// what they have mapped into their memory.
func Files(ctx context.Context, src Source, ref string, mapped bool) (*api.OpenFiles, error) {
	s, err := running(src, ref)
	if err != nil {
		return nil, err
	}
	fds, unknown := descriptors(s.Pids)
	l := &fileList{out: &api.OpenFiles{Files: []api.OpenFile{}, Unknown: unknown}, counted: map[inode]bool{}}
	l.sockets(s.Pid)
	ends := map[uint64][]pipeEnd{}
	for _, d := range fds {
		if n, ok := d.inode("pipe"); ok {
			flags, _, _ := position(d.HostPID, d.FD)
			ends[n] = append(ends[n], pipeEnd{d.Holder, flags & unix.O_ACCMODE})
		}
	}
	for _, pid := range s.Pids {
		l.fixed(pid)
		for len(fds) > 0 && fds[0].HostPID == pid {
			l.add(&fds[0], ends)
			fds = fds[1:]
		}
	}
	if mapped {
		l.out.Mapped = l.mapped(ctx, s.ID, s.Pids)
	}
	return l.out, ctx.Err()
}

// inode names a file: device and number.
type inode struct {
	major, minor uint32
	number       uint64
}

// pipeEnd is one end of a pipe.
type pipeEnd struct {
	api.Holder
	access uint64 // O_RDONLY, O_WRONLY, or O_RDWR of a named one that is opened so
}

type fileList struct {
	out     *api.OpenFiles
	counted map[inode]bool    // deleted files whose bytes are in the sum
	socket  map[uint64]string // what the sockets are
}

func (l *fileList) sockets(pid int) {
	list, unknown, err := dump(pid)
	if err != nil {
		unknown = append(unknown, "what its sockets are: "+err.Error())
	}
	l.out.Unknown = append(l.out.Unknown, unknown...)
	l.socket = map[uint64]string{}
	for _, k := range list {
		text := strings.TrimSpace(k.Protocol + " " + k.Local)
		if k.Remote != "" {
			text += " → " + k.Remote
		}
		l.socket[uint64(k.Inode)] = text + " " + k.State
	}
}

// fixed adds what a process has without a descriptor.
func (l *fileList) fixed(pid int) {
	h, ok := holderOf(pid)
	if !ok {
		return
	}
	h.FD = -1
	for _, name := range []string{"cwd", "root", "exe"} {
		path := fmt.Sprintf("/proc/%d/%s", pid, name)
		link, err := os.Readlink(path)
		if err != nil {
			continue // it has ended
		}
		f := api.OpenFile{Holder: h, Type: name}
		f.Path, f.Deleted = strings.CutSuffix(link, deletedMark)
		l.measure(&f, path)
		l.out.Files = append(l.out.Files, f)
	}
}

// add adds a descriptor; ends are those of the container's pipes.
func (l *fileList) add(d *descriptor, ends map[uint64][]pipeEnd) {
	f := api.OpenFile{Holder: d.Holder, Type: "file"}
	f.Path, f.Deleted = strings.CutSuffix(d.link, deletedMark)
	path := fmt.Sprintf("/proc/%d/fd/%d", d.HostPID, d.FD)
	flags, offset, ok := position(d.HostPID, d.FD)
	if !ok {
		return // closed meanwhile
	}
	f.Mode, f.Offset = modeText(flags), offset
	if n, ok := d.inode("socket"); ok {
		f.Type, f.Inode = "socket", n
		f.Path = cmp.Or(l.socket[n], d.link)
		l.out.Files = append(l.out.Files, f)
		return
	}
	if n, ok := d.inode("pipe"); ok {
		for _, e := range ends[n] {
			if e.access != flags&unix.O_ACCMODE {
				f.Peers = append(f.Peers, e.Holder)
			}
		}
	}
	l.measure(&f, path)
	switch {
	case strings.HasPrefix(d.link, "anon_inode:"):
		f.Type, f.Path, f.Size = "anon", strings.Trim(strings.TrimPrefix(d.link, "anon_inode:"), "[]"), 0
	case strings.HasPrefix(d.link, "/memfd:"):
		f.Type, f.Path, f.Deleted = "memfd", strings.TrimPrefix(f.Path, "/memfd:"), false
	}
	l.out.Files = append(l.out.Files, f)
}

// types are the kinds of files by their mode, see inode(7).
var types = map[uint16]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFCHR: "char", unix.S_IFBLK: "block", unix.S_IFIFO: "fifo", unix.S_IFLNK: "link", unix.S_IFSOCK: "socket",
}

// measure fills in what the kernel has of a file in its memory.
func (l *fileList) measure(f *api.OpenFile, path string) {
	st, err := describe(path)
	if err != nil {
		return
	}
	kind := st.Mode & unix.S_IFMT
	if f.FD >= 0 {
		f.Type = cmp.Or(types[kind], f.Type)
	}
	if strings.HasPrefix(f.Path, "pipe:[") {
		f.Type = "pipe"
	}
	f.Inode = st.Ino
	if kind != unix.S_IFREG {
		return
	}
	f.Size = int64(st.Size)
	id := inode{st.Dev_major, st.Dev_minor, st.Ino}
	if f.Deleted && st.Nlink == 0 && !strings.HasPrefix(f.Path, "/memfd:") && !l.counted[id] {
		const block = 512 // of st_blocks
		l.counted[id] = true
		l.out.DeletedBytes += int64(st.Blocks) * block
	}
}

// position reads how a descriptor was opened and where it stands, see
// proc_pid_fdinfo(5).
func position(pid, fd int) (flags uint64, offset int64, ok bool) {
	text, err := procfile.Read(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd), 4<<10)
	if err != nil {
		return 0, 0, false
	}
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "pos":
			offset, err = strconv.ParseInt(value, 10, 64)
		case "flags":
			flags, err = strconv.ParseUint(value, 8, 64)
		}
		if err != nil {
			return 0, 0, false
		}
	}
	return flags, offset, true
}

func modeText(flags uint64) string {
	mode := ""
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		mode = "r"
	case unix.O_WRONLY:
		mode = "w"
	case unix.O_RDWR:
		mode = "rw"
	}
	switch {
	case flags&unix.O_PATH != 0:
		return ""
	case flags&unix.O_APPEND != 0:
		return mode + "+a"
	}
	return mode
}

// mapsMost bounds how much is read of the table of one process's mappings.
const mapsMost = 16 << 20

// mapped lists the files that processes have mapped, by path. The kernel's table is
// read under a lock of the process's memory, so that a stuck process may keep it.
func (l *fileList) mapped(ctx context.Context, id string, pids []int) []api.MappedFile {
	found := map[string]*api.MappedFile{}
	for _, pid := range pids {
		h, ok := holderOf(pid)
		if !ok {
			continue
		}
		text, err := within(ctx, fmt.Sprintf("maps %s %d", id, pid), func() ([]byte, error) {
			return procfile.Read(fmt.Sprintf("/proc/%d/maps", pid), mapsMost)
		})
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
			continue // it has ended
		case err != nil:
			l.out.Unknown = append(l.out.Unknown, fmt.Sprintf("what process %d (%s) has mapped: %v", h.PID, h.Name, err))
			continue
		}
		addMaps(found, text, h.PID)
	}
	list := make([]api.MappedFile, 0, len(found))
	for _, m := range found {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b api.MappedFile) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Inode, b.Inode))
	})
	return list
}

// addMaps reads a table of mappings, see proc_pid_maps(5).
func addMaps(found map[string]*api.MappedFile, text []byte, pid int) {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		// ADDRESS PERMISSIONS OFFSET DEVICE INODE PATH, and the path may hold blanks.
		f := strings.SplitN(lines.Text(), " ", 6)
		if len(f) < 6 || !strings.HasPrefix(strings.TrimLeft(f[5], " "), "/") {
			continue
		}
		path, deleted := strings.CutSuffix(strings.TrimLeft(f[5], " "), deletedMark)
		number, err := strconv.ParseUint(f[4], 10, 64)
		if err != nil || deleted && memory(path) {
			continue
		}
		key := f[3] + " " + f[4] + " " + path
		m := found[key]
		if m == nil {
			m = &api.MappedFile{Path: path, Deleted: deleted, Inode: number}
			found[key] = m
		}
		m.Executable = m.Executable || strings.Contains(f[1], "x")
		if !slices.Contains(m.Processes, pid) {
			m.Processes = append(m.Processes, pid)
		}
	}
}

// memory tells whether a path without a file is what the kernel calls memory that
// is shared (mm/shmem.c, ipc/shm.c).
func memory(path string) bool {
	for _, name := range []string{"/dev/zero", "/SYSV", "/memfd:", "/anon_hugepage"} {
		if strings.HasPrefix(path, name) {
			return true
		}
	}
	return false
}
