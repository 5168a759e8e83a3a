package engine

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/record/death"
)

// corePattern is where the kernel has what becomes of the core of a process that crashes, see core(5). It is one for the
// whole machine, so nothing here changes it.
const corePattern = "/proc/sys/kernel/core_pattern"

// coreState tells whether the kernel has dumped the core of a process.
type coreState bool

const coreDumped coreState = true

// coreClock is how far the clock of files may be behind: the kernel sets it at each tick.
const coreClock = 100 * time.Millisecond

// coreEntries bounds how many files are looked at beside a core.
const coreEntries = 10_000

// coreOf finds what the kernel has made of the core of a container's first process; nil: that is not known. A file is looked
// for in the container's own layer: what is written into a volume or a bind mount, which may be anything and anywhere, is not.
func (e *Engine) coreOf(v *view, state coreState) *death.Core {
	if kept := e.keptCore(v); kept != nil {
		return &death.Core{ID: kept.ID, Bytes: kept.Bytes, Truncated: kept.Truncated}
	}
	if state != coreDumped {
		return nil
	}
	text, err := os.ReadFile(corePattern)
	if err != nil {
		return nil
	}
	pattern := strings.TrimSuffix(string(text), "\n")
	if pattern == "" {
		return nil // with core_uses_pid it is a number alone, anywhere
	}
	if strings.HasPrefix(pattern, "|") || strings.HasPrefix(pattern, "@") {
		return &death.Core{Handler: pattern}
	}
	if !path.IsAbs(pattern) {
		pattern = path.Join("/", v.config().WorkingDir, pattern)
	}
	core, err := findCore(e.deps.Images.RootFSDir(v.ID), pattern, v.Life.Began().Add(-coreClock))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			e.log.Warn("core of a container was not found", "container", v.ID, "err", err)
		}
		return nil
	}
	return core
}

// findCore finds the newest core below root that a process has left since a moment. Links do not lead out of root.
func findCore(root, pattern string, since time.Time) (*death.Core, error) {
	dir, err := mount.OpenSource(root, strings.TrimPrefix(path.Dir(pattern), "/"))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	list := os.NewFile(uintptr(fd), dir.Name())
	defer list.Close()
	names, err := list.Readdirnames(coreEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var core *death.Core
	var newest time.Time
	for _, name := range names {
		if !coreName(path.Base(pattern), name) {
			continue
		}
		var st unix.Stat_t
		if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		at := time.Unix(st.Mtim.Unix())
		if at.Before(since) || at.Before(newest) {
			continue
		}
		newest, core = at, &death.Core{Path: path.Join(path.Dir(pattern), name), Bytes: st.Size}
	}
	return core, nil
}

// coreName tells whether a file can be a core by its name. What the kernel puts in place of % is any text.
func coreName(pattern, name string) bool {
	var glob strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '%' && i+1 < len(pattern) && pattern[i+1] == '%':
			glob.WriteByte('%')
			i++
		case c == '%':
			glob.WriteByte('*')
			i++
		case strings.IndexByte(`*?[]\\`, c) >= 0:
			glob.WriteByte('\\')
			glob.WriteByte(c)
		default:
			glob.WriteByte(c)
		}
	}
	for _, end := range []string{"", ".[0-9]*"} { // core_uses_pid
		if ok, err := path.Match(glob.String()+end, name); err == nil && ok {
			return true
		}
	}
	return false
}
