package crilog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
)

// Names of the files that make up segment n.
func logName(n int) string        { return fmt.Sprintf("%08d.log", n) }
func compressedName(n int) string { return fmt.Sprintf("%08d.log.zst", n) }
func scratchName(n int) string    { return fmt.Sprintf("%08d.log.zst.tmp", n) }
func indexName(n int) string      { return fmt.Sprintf("%08d.idx", n) }

// segmentFiles says which files of one segment exist.
type segmentFiles struct {
	n                       int
	plain, compressed, rest bool
}

// Current is the path of the newest segment in dir, to which lines are written if somebody writes; empty if there is
// none. Rotation makes it out of date at any time.
func Current(dir string) string {
	d, err := os.Open(dir)
	if err != nil {
		return ""
	}
	defer d.Close()
	list, err := listSegments(d)
	if err != nil {
		return ""
	}
	for _, s := range slices.Backward(list) {
		if s.plain {
			return filepath.Join(dir, logName(s.n))
		}
	}
	return ""
}

// listSegments gives the segments in dir, oldest first. Other files in dir are
// passed over.
func listSegments(dir *os.File) ([]segmentFiles, error) {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("list log dir %q: %w", dir.Name(), err)
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list log dir %q: %w", dir.Name(), err)
	}
	found := map[int]*segmentFiles{}
	for _, name := range names {
		n, suffix, ok := parseName(name)
		if !ok {
			continue
		}
		s := found[n]
		if s == nil {
			s = &segmentFiles{n: n}
			found[n] = s
		}
		switch suffix {
		case ".log":
			s.plain = true
		case ".log.zst":
			s.compressed = true
		default:
			s.rest = true
		}
	}
	list := make([]segmentFiles, 0, len(found))
	for _, s := range found {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b segmentFiles) int { return a.n - b.n })
	return list, nil
}

// readable keeps the segments that hold lines.
func readable(list []segmentFiles) []segmentFiles {
	return slices.DeleteFunc(list, func(s segmentFiles) bool { return !s.plain && !s.compressed })
}

func parseName(name string) (n int, suffix string, ok bool) {
	digits, _, _ := strings.Cut(name, ".")
	suffix = name[len(digits):]
	switch suffix {
	case ".log", ".log.zst", ".log.zst.tmp", ".idx":
	default:
		return 0, "", false
	}
	if len(digits) < 8 {
		return 0, "", false
	}
	n, err := strconv.Atoi(digits)
	return n, suffix, err == nil && n > 0 && fmt.Sprintf("%08d", n) == digits
}

// openAt opens a regular file in dir. Links are refused, and so is everything
// that is not a file: the directory belongs to the container's root, and the
// one who reads is more powerful than that.
func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	// Nonblocking mode is of no consequence for a regular file, but would make
	// os.NewFile try the network poller.
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// removeSegment unlinks all files of segment n; missing ones are no error.
func removeSegment(dir *os.File, n int) error {
	if err := failpoint.Hit("crilog.remove"); err != nil {
		return err
	}
	var errs []error
	for _, name := range []string{logName(n), compressedName(n), scratchName(n), indexName(n)} {
		if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil && err != unix.ENOENT {
			errs = append(errs, &fs.PathError{Op: "remove", Path: name, Err: err})
		}
	}
	return errors.Join(errs...)
}
