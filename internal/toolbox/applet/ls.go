package applet

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// listed is a file that ls shows, under a name.
type listed struct {
	name, path string
	info       fs.FileInfo
	stat       *syscall.Stat_t
}

// lister is one call of ls.
type lister struct {
	std    IO
	o      options
	failed bool
	shown  bool // something stands above
	color  bool
	width  int // of the terminal; 0: one name a line
	names  map[string]string
}

// lsCommand lists files as POSIX has it: names in columns on a terminal, one a
// line elsewhere.
func lsCommand(std IO, args []string) error {
	long := map[string]byte{"all": 'a', "almost-all": 'A', "directory": 'd', "human-readable": 'h', "inode": 'i', "numeric-uid-gid": 'n', "recursive": 'R', "reverse": 'r', "classify": 'F', "color": 'G', "full-time": 'e'}
	o, err := parse(args, "1aACdFhHiklLnopqrRsStUxeGgc", "", long)
	if err != nil {
		return err
	}
	l := &lister{std: std, o: o, names: map[string]string{}}
	l.screen()
	paths := o.args
	if len(paths) == 0 {
		paths = []string{"."}
	}
	var files, dirs []listed
	for _, p := range paths {
		f, err := l.look(p, p, !o.has('l') && !o.has('d') || o.has('L'))
		switch {
		case err != nil:
			l.fail(p, err)
		case f.info.IsDir() && !o.has('d'):
			dirs = append(dirs, f)
		default:
			files = append(files, f)
		}
	}
	l.sort(files)
	l.sort(dirs)
	l.print(files, false)
	titled := len(paths) > 1 || o.has('R')
	for _, d := range dirs {
		l.dir(d, titled)
	}
	if l.failed {
		return exitStatus(1)
	}
	return nil
}

func (l *lister) screen() {
	f, ok := l.std.Out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return
	}
	l.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if l.width, _, _ = term.GetSize(int(f.Fd())); l.width == 0 {
		l.width = 80
	}
}

func (l *lister) fail(path string, err error) {
	l.failed = true
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	fmt.Fprintf(l.std.Err, "ls: %s: %v\n", path, err)
}

// look finds a file out. A link that leads nowhere is itself.
func (l *lister) look(path, name string, follow bool) (listed, error) {
	info, err := os.Lstat(path)
	if err == nil && follow && info.Mode()&fs.ModeSymlink != 0 {
		if target, err := os.Stat(path); err == nil {
			info = target
		}
	}
	if err != nil {
		return listed{}, err
	}
	return listed{name: name, path: path, info: info, stat: info.Sys().(*syscall.Stat_t)}, nil
}

// dir lists a directory, and what is below it.
func (l *lister) dir(d listed, titled bool) {
	f, err := os.Open(d.path)
	var names []string
	if err == nil {
		names, err = f.Readdirnames(-1)
		f.Close()
	}
	if titled {
		if l.shown {
			fmt.Fprintln(l.std.Out)
		}
		fmt.Fprintf(l.std.Out, "%s:\n", d.name)
		l.shown = true
	}
	if err != nil {
		l.fail(d.path, err)
		return
	}
	if l.o.has('a') {
		names = append(names, ".", "..")
	}
	var entries []listed
	for _, n := range names {
		if strings.HasPrefix(n, ".") && !l.o.has('a') && !l.o.has('A') {
			continue
		}
		e, err := l.look(filepath.Join(d.path, n), n, l.o.has('L'))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went meanwhile
		}
		if err != nil {
			l.fail(filepath.Join(d.path, n), err)
			continue
		}
		entries = append(entries, e)
	}
	l.sort(entries)
	l.print(entries, true)
	if !l.o.has('R') {
		return
	}
	for _, e := range entries {
		if e.info.IsDir() && e.name != "." && e.name != ".." {
			e.name = filepath.Join(d.name, e.name)
			l.dir(e, true)
		}
	}
}

func (l *lister) sort(list []listed) {
	slices.SortStableFunc(list, func(a, b listed) int {
		n := 0
		switch {
		case l.o.has('U'):
			return 0
		case l.o.has('S'):
			n = cmp.Compare(b.info.Size(), a.info.Size())
		case l.o.has('t'):
			n = b.info.ModTime().Compare(a.info.ModTime())
		}
		return cmp.Or(n, cmp.Compare(a.name, b.name))
	})
	if l.o.has('r') {
		slices.Reverse(list)
	}
}

func (l *lister) print(list []listed, isDir bool) {
	if len(list) == 0 && !isDir {
		return
	}
	l.shown = true
	long := l.o.has('l') || l.o.has('n') || l.o.has('o') || l.o.has('g') || l.o.has('e')
	if isDir && (long || l.o.has('s')) {
		var blocks int64
		for _, f := range list {
			blocks += f.stat.Blocks
		}
		fmt.Fprintf(l.std.Out, "total %d\n", blocks/2)
	}
	switch {
	case long:
		l.long(list)
	case l.width > 0 && !l.o.has('1'):
		l.columns(list)
	default:
		for _, f := range list {
			fmt.Fprintln(l.std.Out, l.prefix(f)+l.label(f))
		}
	}
}

// prefix is what -i and -s put in front.
func (l *lister) prefix(f listed) string {
	out := ""
	if l.o.has('i') {
		out = fmt.Sprintf("%7d ", f.stat.Ino)
	}
	if l.o.has('s') {
		out += fmt.Sprintf("%4d ", f.stat.Blocks/2)
	}
	return out
}

// label is the name, safe for a terminal, with color and mark.
func (l *lister) label(f listed) string {
	name := f.name
	if l.width > 0 {
		name = strings.Map(func(r rune) rune {
			if !strconv.IsPrint(r) {
				return '?'
			}
			return r
		}, name)
	}
	mark := ""
	if l.o.has('F') || l.o.has('p') && f.info.IsDir() {
		mark = marks[kindLetter(f.info.Mode())]
		if mark == "" && f.info.Mode()&0o111 != 0 && f.info.Mode().IsRegular() {
			mark = "*"
		}
	}
	if c := colors[kindLetter(f.info.Mode())]; l.color && c != "" {
		name = "\x1b[" + c + "m" + name + "\x1b[m"
	} else if l.color && f.info.Mode().IsRegular() && f.info.Mode()&0o111 != 0 {
		name = "\x1b[1;32m" + name + "\x1b[m"
	}
	return name + mark
}

var (
	marks  = map[byte]string{'d': "/", 'l': "@", 's': "=", 'p': "|"}
	colors = map[byte]string{'d': "1;34", 'l': "1;36", 's': "1;35", 'p': "33", 'c': "1;33", 'b': "1;33"}
)

func kindLetter(m fs.FileMode) byte {
	switch {
	case m.IsDir():
		return 'd'
	case m&fs.ModeSymlink != 0:
		return 'l'
	case m&fs.ModeNamedPipe != 0:
		return 'p'
	case m&fs.ModeSocket != 0:
		return 's'
	case m&fs.ModeCharDevice != 0:
		return 'c'
	case m&fs.ModeDevice != 0:
		return 'b'
	}
	return '-'
}

func (l *lister) columns(list []listed) {
	widest := 0
	for _, f := range list {
		widest = max(widest, len([]rune(l.prefix(f)+f.name))+1)
	}
	per := max(1, l.width/(widest+1))
	rows := (len(list) + per - 1) / per
	for r := range rows {
		var b strings.Builder
		for i := r; i < len(list); i += rows {
			f := list[i]
			b.WriteString(l.prefix(f) + l.label(f))
			if i+rows < len(list) {
				b.WriteString(strings.Repeat(" ", widest+1-len([]rune(l.prefix(f)+f.name))))
			}
		}
		fmt.Fprintln(l.std.Out, b.String())
	}
}

func (l *lister) long(list []listed) {
	rows := make([][]string, 0, len(list))
	for _, f := range list {
		size := strconv.FormatInt(f.info.Size(), 10)
		switch {
		case f.info.Mode()&fs.ModeDevice != 0:
			size = fmt.Sprintf("%d, %d", unix.Major(f.stat.Rdev), unix.Minor(f.stat.Rdev))
		case l.o.has('h'):
			size = human(uint64(f.info.Size()))
		}
		name := l.label(f)
		if f.info.Mode()&fs.ModeSymlink != 0 {
			if to, err := os.Readlink(f.path); err == nil {
				name += " -> " + to
			}
		}
		row := []string{modeString(f.stat.Mode), strconv.FormatUint(uint64(f.stat.Nlink), 10)} //nolint:unconvert // of another type on other machines
		if !l.o.has('g') {
			row = append(row, l.owner("/etc/passwd", f.stat.Uid))
		}
		if !l.o.has('o') {
			row = append(row, l.owner("/etc/group", f.stat.Gid))
		}
		rows = append(rows, append(row, size, l.when(f.info.ModTime()), name, l.prefix(f)))
	}
	l.align(rows)
}

// align prints rows whose last field goes in front. Numbers stand at the right.
func (l *lister) align(rows [][]string) {
	if len(rows) == 0 {
		return
	}
	n := len(rows[0])
	widths := make([]int, n)
	for _, r := range rows {
		for i, v := range r {
			widths[i] = max(widths[i], len(v))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		b.WriteString(r[n-1])
		for i, v := range r[:n-1] {
			switch i {
			case n - 2:
				b.WriteString(v)
			case 1, n - 4:
				fmt.Fprintf(&b, "%*s ", widths[i], v)
			default:
				fmt.Fprintf(&b, "%-*s ", widths[i], v)
			}
		}
		fmt.Fprintln(l.std.Out, b.String())
	}
}

func (l *lister) owner(file string, id uint32) string {
	if l.o.has('n') {
		return strconv.FormatUint(uint64(id), 10)
	}
	key := file + strconv.FormatUint(uint64(id), 10)
	name, known := l.names[key]
	if !known {
		name = idName(file, int(id))
		l.names[key] = name
	}
	return name
}

func (l *lister) when(t time.Time) string {
	switch age := time.Since(t); {
	case l.o.has('e'):
		return t.Format("2006-01-02 15:04:05.000000000 -0700")
	case age > 182*24*time.Hour || age < -time.Hour:
		return t.Format("Jan _2  2006")
	default:
		return t.Format("Jan _2 15:04")
	}
}

// modeString is a mode as ls and stat show it: "drwxrwxrwt".
func modeString(mode uint32) string {
	kinds := map[uint32]byte{unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFIFO: 'p', unix.S_IFSOCK: 's', unix.S_IFCHR: 'c', unix.S_IFBLK: 'b'}
	out := []byte("-rwxrwxrwx")
	if k := kinds[mode&unix.S_IFMT]; k != 0 {
		out[0] = k
	}
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			out[1+i] = '-'
		}
	}
	for _, s := range []struct {
		bit         uint32
		at          int
		with, alone byte
	}{{unix.S_ISUID, 3, 's', 'S'}, {unix.S_ISGID, 6, 's', 'S'}, {unix.S_ISVTX, 9, 't', 'T'}} {
		switch {
		case mode&s.bit == 0:
		case out[s.at] == 'x':
			out[s.at] = s.with
		default:
			out[s.at] = s.alone
		}
	}
	return string(out)
}
