// Package arm sets the fail points of a whole program from its environment, as it
// starts. Only programs built with the tag failpoint import it.
//
//	PORTHOLE_FAILPOINT_DIR=/tmp/points  # each hit of a point appends a byte to the file of its name in there
//	PORTHOLE_FAILPOINT=volume.sync=kill@3
//
// The point is followed by what happens there: kill ends the process by SIGKILL,
// enospc and eio make the step fail, as a full or a broken disk does. It happens at
// the third hit, of all processes with that directory together; without a number at
// the first. A process dies of that once, and leaves its id in the file "died"; errors
// go on until there is a file "over" in the directory. Processes of other users may share a directory that they may
// write to.
package arm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/portholehq/porthole/internal/failpoint"
)

const (
	// Variable says which point fails, and how. Unset or empty: none, they are only counted.
	Variable = "PORTHOLE_FAILPOINT"
	// DirVariable is where hits are counted. Unset: there are no points.
	DirVariable = "PORTHOLE_FAILPOINT_DIR"
	// Over is the file in that directory that ends the errors.
	Over = "over"
	// Died is the file in there that has the id, and a newline, of the process that is about to die.
	Died = "died"
)

// FromEnvironment sets the points that the environment asks for. A program that
// gets an error should end: a test would otherwise prove nothing.
func FromEnvironment() error {
	dir, text := os.Getenv(DirVariable), os.Getenv(Variable)
	if dir == "" && text == "" {
		return nil
	}
	p, err := parse(dir, text)
	if err != nil {
		return fmt.Errorf("set fail point by %s: %w", Variable, err)
	}
	failpoint.SetIn([]string{DirVariable + "=" + dir, Variable + "=" + text}, p.at)
	return nil
}

// plan is what is to happen.
type plan struct {
	dir    string
	point  string
	effect syscall.Errno // 0: death
	first  int64         // hit at which it happens
}

func parse(dir, text string) (p plan, err error) {
	p = plan{dir: dir, first: 1}
	if !filepath.IsAbs(dir) {
		return p, fmt.Errorf("%s is %q, not an absolute path", DirVariable, dir)
	}
	if text == "" {
		return p, nil
	}
	point, what, ok := strings.Cut(text, "=")
	what, number, numbered := strings.Cut(what, "@")
	if numbered {
		if p.first, err = strconv.ParseInt(number, 10, 64); err != nil || p.first < 1 {
			return p, fmt.Errorf("%q does not say which hit, from 1 on", text)
		}
	}
	effects := map[string]syscall.Errno{"kill": 0, "enospc": syscall.ENOSPC, "eio": syscall.EIO}
	effect, known := effects[what]
	if !ok || point == "" || !known {
		return p, fmt.Errorf("%q is not POINT=kill|enospc|eio[@HIT]", text)
	}
	p.point, p.effect = point, effect
	return p, nil
}

func (p plan) at(point string) error {
	hit, err := p.count(point)
	if err != nil {
		return fmt.Errorf("count fail point: %w", err)
	}
	if point != p.point || hit < p.first {
		return nil
	}
	if p.effect != 0 {
		if _, err := os.Lstat(filepath.Join(p.dir, Over)); err == nil {
			return nil
		}
		return p.effect
	}
	if hit == p.first {
		if err := os.WriteFile(filepath.Join(p.dir, Died), fmt.Appendln(nil, os.Getpid()), 0o644); err != nil {
			return err
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			return err
		}
		select {} // whoever is here does not go on
	}
	return nil
}

// count notes a hit and tells which one it was: that of a file to which is only
// appended is the end of the own byte, however many write at once.
func (p plan) count(point string) (int64, error) {
	path := filepath.Join(p.dir, point)
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_APPEND|syscall.O_CLOEXEC, 0)
	if errors.Is(err, syscall.ENOENT) {
		if err := p.make(path); err != nil {
			return 0, err
		}
		fd, err = syscall.Open(path, syscall.O_WRONLY|syscall.O_APPEND|syscall.O_CLOEXEC, 0)
	}
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	if _, err := syscall.Write(fd, []byte{'.'}); err != nil {
		return 0, &os.PathError{Op: "write", Path: path, Err: err}
	}
	return syscall.Seek(fd, 0, 1)
}

// make makes a file that everybody may write to, whatever the umask. Who finds it
// may: it is made aside, and whoever is first gives it its name.
func (p plan) make(path string) error {
	f, err := os.CreateTemp(p.dir, ".new-*")
	if err != nil {
		return err
	}
	defer f.Close()
	err = f.Chmod(0o666)
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(f.Name()))
}
