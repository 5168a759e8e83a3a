package applet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func walkFiles(root string, files *[]string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			*files = append(*files, path)
		}
		return nil
	})
}

func basenameCommand(std IO, args []string) error {
	if len(args) == 0 {
		return usageError("a path is missing")
	}
	base := filepath.Base(args[0])
	if len(args) > 1 && base != args[1] {
		base = strings.TrimSuffix(base, args[1])
	}
	fmt.Fprintln(std.Out, base)
	return nil
}

func dirnameCommand(std IO, args []string) error {
	if len(args) == 0 {
		return usageError("a path is missing")
	}
	for _, a := range args {
		fmt.Fprintln(std.Out, filepath.Dir(strings.TrimRight(a, "/")))
	}
	return nil
}

func chownCommand(std IO, args []string) error {
	o, err := parse(args, "Rh", "", nil)
	if err != nil {
		return err
	}
	if len(o.args) < 2 {
		return usageError("chown [-R] USER[:GROUP] FILE...")
	}
	uid, gid, err := owner(o.args[0])
	if err != nil {
		return err
	}
	change := os.Chown
	if o.has('h') || o.has('R') {
		change = os.Lchown
	}
	return eachPath(std, "chown", o.args[1:], func(path string) error {
		if !o.has('R') {
			return change(path, uid, gid)
		}
		return filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return change(p, uid, gid)
		})
	})
}

// owner reads USER, USER:GROUP or :GROUP, by name or number; -1 stands for no
// change.
func owner(spec string) (uid, gid int, err error) {
	user, group, _ := strings.Cut(spec, ":")
	uid, gid = -1, -1
	if user != "" {
		if uid, err = nameID("/etc/passwd", user); err != nil {
			return 0, 0, fmt.Errorf("invalid user: %q", user)
		}
	}
	if group != "" {
		if gid, err = nameID("/etc/group", group); err != nil {
			return 0, 0, fmt.Errorf("invalid group: %q", group)
		}
	}
	return uid, gid, nil
}

// eachPath calls fn for each path and goes on after errors.
func eachPath(std IO, name string, paths []string, fn func(string) error) error {
	failed := false
	for _, p := range paths {
		if err := fn(p); err != nil {
			fmt.Fprintf(std.Err, "%s: %v\n", name, plain(err))
			failed = true
		}
	}
	if failed {
		return exitStatus(1)
	}
	return nil
}

func lnCommand(std IO, args []string) error {
	o, err := parse(args, "sfnv", "", nil)
	if err != nil {
		return err
	}
	if len(o.args) == 0 {
		return usageError("ln [-sf] TARGET... LINK")
	}
	targets, link := o.args, "."
	if len(o.args) > 1 {
		targets, link = o.args[:len(o.args)-1], o.args[len(o.args)-1]
	}
	return eachPath(std, "ln", targets, func(target string) error {
		name := link
		if info, err := os.Stat(link); err == nil && info.IsDir() && !o.has('n') {
			name = filepath.Join(link, filepath.Base(target))
		}
		if o.has('f') {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if o.has('s') {
			return os.Symlink(target, name)
		}
		return os.Link(target, name)
	})
}

func readlinkCommand(std IO, args []string) error {
	o, err := parse(args, "fne", "", nil)
	if err != nil {
		return err
	}
	if len(o.args) == 0 {
		return usageError("a path is missing")
	}
	for _, a := range o.args {
		target, err := os.Readlink(a)
		if o.has('f') || o.has('e') {
			target, err = filepath.EvalSymlinks(a)
			if err == nil {
				target, err = filepath.Abs(target)
			}
		}
		if err != nil {
			return exitStatus(1)
		}
		fmt.Fprint(std.Out, target)
		if !o.has('n') {
			fmt.Fprintln(std.Out)
		}
	}
	return nil
}

func realpathCommand(std IO, args []string) error {
	if len(args) == 0 {
		return usageError("a path is missing")
	}
	return eachPath(std, "realpath", args, func(path string) error {
		p, err := filepath.EvalSymlinks(path)
		if err != nil {
			return err
		}
		if p, err = filepath.Abs(p); err == nil {
			fmt.Fprintln(std.Out, p)
		}
		return err
	})
}

func rmdirCommand(std IO, args []string) error {
	o, err := parse(args, "p", "", nil)
	if err != nil {
		return err
	}
	return eachPath(std, "rmdir", o.args, func(path string) error {
		for {
			if err := unix.Rmdir(path); err != nil {
				return &os.PathError{Op: "rmdir", Path: path, Err: err}
			}
			path = filepath.Dir(path)
			if !o.has('p') || path == "." || path == "/" {
				return nil
			}
		}
	})
}

func mkfifoCommand(std IO, args []string) error {
	return eachPath(std, "mkfifo", args, func(path string) error {
		if err := unix.Mkfifo(path, 0o666); err != nil {
			return &os.PathError{Op: "mkfifo", Path: path, Err: err}
		}
		return nil
	})
}

func mknodCommand(_ IO, args []string) error {
	if len(args) < 2 {
		return usageError("mknod NAME b|c|p [MAJOR MINOR]")
	}
	kinds := map[string]uint32{"b": unix.S_IFBLK, "c": unix.S_IFCHR, "u": unix.S_IFCHR, "p": unix.S_IFIFO}
	mode, ok := kinds[args[1]]
	if !ok {
		return usageError("mknod NAME b|c|p [MAJOR MINOR]")
	}
	var dev uint64
	if args[1] != "p" {
		if len(args) != 4 {
			return usageError("mknod NAME b|c|p [MAJOR MINOR]")
		}
		major, err := strconv.ParseUint(args[2], 0, 32)
		if err != nil {
			return usageError("invalid number: " + args[2])
		}
		minor, err := strconv.ParseUint(args[3], 0, 32)
		if err != nil {
			return usageError("invalid number: " + args[3])
		}
		dev = unix.Mkdev(uint32(major), uint32(minor))
	}
	if err := unix.Mknod(args[0], mode|0o666, int(dev)); err != nil {
		return &os.PathError{Op: "mknod", Path: args[0], Err: err}
	}
	return nil
}

func syncCommand(IO, []string) error {
	unix.Sync()
	return nil
}

func ddCommand(std IO, args []string) error {
	value := map[string]string{"bs": "512", "count": "-1", "skip": "0", "seek": "0"}
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			return usageError("unknown operand: " + a)
		}
		value[k] = v
	}
	var n [4]int64
	for i, k := range []string{"bs", "count", "skip", "seek"} {
		var err error
		if n[i], err = size(value[k]); err != nil {
			return usageError("invalid number: " + value[k])
		}
	}
	bs, count, skip, seek := n[0], n[1], n[2], n[3]
	if bs <= 0 {
		return usageError("invalid number: " + value["bs"])
	}
	in, out := std.In, std.Out
	if f := value["if"]; f != "" {
		file, err := os.Open(f)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	if f := value["of"]; f != "" {
		flags := os.O_CREATE | os.O_WRONLY
		if seek == 0 && !strings.Contains(value["conv"], "notrunc") {
			flags |= os.O_TRUNC
		}
		file, err := os.OpenFile(f, flags, 0o666)
		if err != nil {
			return err
		}
		defer file.Close()
		if _, err := file.Seek(seek*bs, io.SeekStart); err != nil && seek > 0 {
			return err
		}
		out = file
	}
	if _, err := io.CopyN(io.Discard, in, skip*bs); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	start, full, part, total := time.Now(), 0, 0, int64(0)
	buf := make([]byte, bs)
	for count < 0 || int64(full+part) < count {
		got, err := io.ReadFull(in, buf)
		if got > 0 {
			if _, err := out.Write(buf[:got]); err != nil {
				return err
			}
			total += int64(got)
			if int64(got) == bs {
				full++
			} else {
				part++
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if value["status"] != "none" {
		fmt.Fprintf(std.Err, "%d+%d records in\n%d+%d records out\n%d bytes copied, %.3f s\n", full, part, full, part, total, time.Since(start).Seconds())
	}
	return nil
}

// size reads a number with an optional unit.
func size(text string) (int64, error) {
	units := map[string]int64{"c": 1, "w": 2, "b": 512, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "kB": 1000, "MB": 1e6, "GB": 1e9}
	digits := strings.TrimRight(text, "cwbkKMGB")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, err
	}
	if unit := text[len(digits):]; unit != "" {
		f, ok := units[unit]
		if !ok {
			return 0, fmt.Errorf("unit %q", unit)
		}
		n *= f
	}
	return n, nil
}

// human writes a number of bytes shortly.
func human(n uint64) string {
	units := []string{"", "K", "M", "G", "T", "P"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return strconv.FormatUint(n, 10)
	}
	return fmt.Sprintf("%.1f%s", f, units[i])
}

func duCommand(std IO, args []string) error {
	o, err := parse(args, "shkam", "d", nil)
	if err != nil {
		return err
	}
	roots := o.args
	if len(roots) == 0 {
		roots = []string{"."}
	}
	depth, err := strconv.Atoi(o.value('d', "1000000"))
	if err != nil {
		return usageError("invalid number: " + o.value('d', ""))
	}
	if o.has('s') {
		depth = 0
	}
	return eachPath(std, "du", roots, func(root string) error {
		d := du{std: std, o: o, depth: depth, seen: map[[2]uint64]bool{}}
		_, err := d.walk(root, 0)
		return err
	})
}

type du struct {
	std   IO
	o     options
	depth int
	seen  map[[2]uint64]bool
}

func (d *du) walk(path string, level int) (uint64, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	st := info.Sys().(*syscall.Stat_t)
	id := [2]uint64{st.Dev, st.Ino}
	if d.seen[id] {
		return 0, nil
	}
	d.seen[id] = true
	sum := uint64(st.Blocks) * 512
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			fmt.Fprintf(d.std.Err, "du: %v\n", plain(err))
		}
		for _, e := range entries {
			n, err := d.walk(filepath.Join(path, e.Name()), level+1)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return sum, err
			}
			sum += n
		}
	}
	if level <= d.depth && (info.IsDir() || level == 0 || d.o.has('a')) {
		text := strconv.FormatUint((sum+1023)/1024, 10)
		switch {
		case d.o.has('h'):
			text = human(sum)
		case d.o.has('m'):
			text = strconv.FormatUint((sum+1<<20-1)>>20, 10)
		}
		fmt.Fprintf(d.std.Out, "%s\t%s\n", text, path)
	}
	return sum, nil
}

func dfCommand(std IO, args []string) error {
	o, err := parse(args, "hkTP", "", nil)
	if err != nil {
		return err
	}
	mounts, err := mountTable()
	if err != nil {
		return err
	}
	show := func(n uint64) string {
		if o.has('h') {
			return human(n)
		}
		return strconv.FormatUint(n/1024, 10)
	}
	fmt.Fprintf(std.Out, "%-20s %10s %10s %10s %4s %s\n", "Filesystem", "Size", "Used", "Available", "Use%", "Mounted on")
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		dir := strings.ReplaceAll(f[1], `\040`, " ")
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil || st.Blocks == 0 || !wantedMount(dir, o.args) {
			continue
		}
		bs := uint64(st.Bsize)
		used := (st.Blocks - st.Bfree) * bs
		percent := 100 * float64(used) / float64(max(1, used+st.Bavail*bs))
		fmt.Fprintf(std.Out, "%-20s %10s %10s %10s %3.0f%% %s\n", f[0], show(st.Blocks*bs), show(used), show(st.Bavail*bs), percent, dir)
	}
	return nil
}

// wantedMount tells whether one of the paths is on the file system of dir.
func wantedMount(dir string, paths []string) bool {
	if len(paths) == 0 {
		return true
	}
	var a, b unix.Stat_t
	if unix.Stat(dir, &a) != nil {
		return false
	}
	for _, p := range paths {
		if unix.Stat(p, &b) == nil && a.Dev == b.Dev {
			return true
		}
	}
	return false
}

func statCommand(std IO, args []string) error {
	o, err := parse(args, "L", "c", nil)
	if err != nil {
		return err
	}
	return eachPath(std, "stat", o.args, func(path string) error {
		look := os.Lstat
		if o.has('L') {
			look = os.Stat
		}
		info, err := look(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		if format := o.value('c', ""); format != "" {
			fmt.Fprintln(std.Out, statFormat(format, path, info, st))
			return nil
		}
		fmt.Fprintf(std.Out, "  File: %s\n  Size: %d\tBlocks: %d\tIO Block: %d\t%s\n", path, st.Size, st.Blocks, st.Blksize, fileKind(info.Mode()))
		fmt.Fprintf(std.Out, "Device: %d,%d\tInode: %d\tLinks: %d\n", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino, st.Nlink)
		fmt.Fprintf(std.Out, "Access: (%04o/%s)  Uid: (%d/%s)   Gid: (%d/%s)\n", st.Mode&0o7777, modeString(st.Mode), st.Uid, idName("/etc/passwd", int(st.Uid)), st.Gid, idName("/etc/group", int(st.Gid)))
		const layout = "2006-01-02 15:04:05.000000000 -0700"
		fmt.Fprintf(std.Out, "Access: %s\nModify: %s\nChange: %s\n", time.Unix(st.Atim.Unix()).Format(layout), time.Unix(st.Mtim.Unix()).Format(layout), time.Unix(st.Ctim.Unix()).Format(layout))
		return nil
	})
}

func fileKind(m fs.FileMode) string {
	switch {
	case m.IsRegular():
		return "regular file"
	case m.IsDir():
		return "directory"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "fifo"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeCharDevice != 0:
		return "character special file"
	default:
		return "block special file"
	}
}

func statFormat(format, path string, info fs.FileInfo, st *syscall.Stat_t) string {
	return strings.NewReplacer(
		"%n", path, "%s", strconv.FormatInt(st.Size, 10), "%a", strconv.FormatUint(uint64(st.Mode&0o7777), 8),
		"%A", modeString(st.Mode), "%u", strconv.Itoa(int(st.Uid)), "%g", strconv.Itoa(int(st.Gid)),
		"%U", idName("/etc/passwd", int(st.Uid)), "%G", idName("/etc/group", int(st.Gid)),
		"%i", strconv.FormatUint(st.Ino, 10), "%h", fmt.Sprint(st.Nlink), "%F", fileKind(info.Mode()),
		"%Y", strconv.FormatInt(st.Mtim.Sec, 10), "%X", strconv.FormatInt(st.Atim.Sec, 10), "%Z", strconv.FormatInt(st.Ctim.Sec, 10),
		"%b", strconv.FormatInt(st.Blocks, 10), "%%", "%",
	).Replace(format)
}

func whichCommand(std IO, args []string) error {
	o, err := parse(args, "a", "", nil)
	if err != nil {
		return err
	}
	missing := false
	for _, name := range o.args {
		found := false
		for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
			path := filepath.Join(dir, name)
			if strings.Contains(name, "/") {
				path = name
			}
			info, err := os.Stat(path)
			if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
				continue
			}
			fmt.Fprintln(std.Out, path)
			found = true
			if !o.has('a') {
				break
			}
		}
		missing = missing || !found
	}
	if missing {
		return exitStatus(1)
	}
	return nil
}
