package layers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Action is what a layer did to a path.
type Action string

// The actions.
const (
	Added   Action = "added"
	Changed Action = "changed"
	Removed Action = "removed"
	// Touched is a directory that a layer has for the sake of what is in it.
	Touched Action = "touched"
)

// Touch is what one layer did to a path.
type Touch struct {
	Layer  int
	Action Action
	// What tells what of it changed: "content", "mode 0644 to 0755", "owner 0:0 to
	// 33:33", "type". Of a removal it names the directory that went with all that
	// was in it, if it was not the path itself.
	What []string
	Stat unix.Stat_t // as the layer has it; zero after a removal
	Link string      // where a symbolic link leads
	open func() (*os.File, error)
}

// Blame tells what the layers did to a path, latest first. Symbolic links on the
// way are followed, not one at its end: real is where the path leads. There are no
// touches if no layer knows it.
func (s Stack) Blame(name string) (real string, touches []Touch, err error) {
	real, err = s.follow(path.Clean("/" + name))
	if err != nil {
		return "", nil, &os.PathError{Op: "find", Path: name, Err: err}
	}
	var last *Touch // nil: nothing is there yet
	for n := range s {
		see, err := s.see(n, real)
		if err != nil {
			return "", nil, fmt.Errorf("layer %d: %w", n, err)
		}
		t, err := see.touch(last)
		if err != nil {
			return "", nil, fmt.Errorf("layer %d: %w", n, err)
		}
		if t == nil {
			continue
		}
		t.Layer = n
		touches = append(touches, *t)
		if last = t; t.Action == Removed {
			last = nil
		}
	}
	slices.Reverse(touches)
	return real, touches, nil
}

// maxLinks is the kernel's limit.
const maxLinks = 40

var errTooManyLinks = errors.New("too many levels of symbolic links")

// follow resolves the symbolic links in front of the last element.
func (s Stack) follow(name string) (string, error) {
	done, rest := "/", strings.Split(strings.TrimPrefix(name, "/"), "/")
	for links := 0; len(rest) > 0; {
		next := rest[0]
		rest = rest[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		at := path.Join(done, next)
		if len(rest) == 0 {
			return at, nil
		}
		target, err := s.link(at)
		if err != nil {
			return "", err
		}
		if target == "" {
			done = at
			continue
		}
		if links++; links > maxLinks {
			return "", errTooManyLinks
		}
		if path.IsAbs(target) {
			done = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done, nil
}

// link is the target of what all layers together have at a path, if it is a
// symbolic link.
func (s Stack) link(at string) (string, error) {
	for n := len(s) - 1; n >= 0; n-- {
		see, err := s.see(n, at)
		switch {
		case err != nil:
			return "", err
		case see.there:
			return see.link, nil
		case see.gone != "":
			return "", nil
		}
	}
	return "", nil
}

// sight is what one layer has at a path.
type sight struct {
	there bool
	stat  unix.Stat_t
	link  string
	open  func() (*os.File, error)
	// gone is the path, or what is above it, which the layer removes or replaces, so
	// that nothing of the layers below is seen there.
	gone string
}

func (s Stack) see(n int, at string) (sight, error) {
	var v sight
	root := s[n]
	for prefix, rest := "/", strings.TrimPrefix(at, "/"); ; {
		info, err := root.Lstat(rel(prefix))
		switch {
		case isMissing(err):
			return v, nil
		case err != nil:
			return v, err
		}
		st := statOf(info)
		if IsWhiteout(&st) {
			v.gone = prefix
			return v, nil
		}
		if isDir(&st) {
			opaque, err := isOpaqueAt(root, prefix)
			if err != nil {
				return v, err
			}
			if opaque {
				v.gone = prefix
			}
		}
		if rest == "" {
			v.there, v.stat = true, st
			v.open = func() (*os.File, error) {
				return root.OpenFile(rel(at), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
			}
			if kind(&st) == unix.S_IFLNK {
				v.link, err = root.Readlink(rel(at))
			}
			return v, err
		}
		if !isDir(&st) {
			v.gone = prefix
			return v, nil
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		prefix = path.Join(prefix, name)
	}
}

func statOf(info fs.FileInfo) unix.Stat_t {
	st := info.Sys().(*syscall.Stat_t)
	return unix.Stat_t{
		Dev: st.Dev, Ino: st.Ino, Nlink: st.Nlink, Mode: st.Mode, Uid: st.Uid, Gid: st.Gid, Rdev: st.Rdev, Size: st.Size,
		Mtim: unix.Timespec(st.Mtim),
	}
}

// touch compares what a layer has with what was there before; nil: the layer did
// nothing.
func (v *sight) touch(before *Touch) (*Touch, error) {
	switch {
	case !v.there && v.gone != "" && before != nil:
		return &Touch{Action: Removed, What: []string{v.gone}}, nil
	case !v.there:
		return nil, nil
	}
	t := &Touch{Action: Added, Stat: v.stat, Link: v.link, open: v.open}
	if before == nil {
		return t, nil
	}
	what, err := changes(before, t)
	if err != nil {
		return nil, err
	}
	t.Action, t.What = Changed, what
	if len(what) == 0 {
		t.Action = Touched
	}
	return t, nil
}

// changes tells what is not as it was. Of a directory the time says nothing.
func changes(a, b *Touch) (what []string, err error) {
	if kind(&a.Stat) != kind(&b.Stat) {
		return []string{"type"}, nil
	}
	switch kind(&b.Stat) {
	case unix.S_IFREG:
		same := a.Stat.Size == b.Stat.Size
		if same {
			if same, err = sameContent(a, b); err != nil {
				return nil, err
			}
		}
		switch {
		case !same:
			what = append(what, "content")
		case a.Stat.Mtim != b.Stat.Mtim:
			what = append(what, "time")
		}
	case unix.S_IFLNK:
		if a.Link != b.Link {
			what = append(what, "target")
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if a.Stat.Rdev != b.Stat.Rdev {
			what = append(what, "device")
		}
	}
	const bits = 0o7777
	if a.Stat.Mode&bits != b.Stat.Mode&bits {
		what = append(what, fmt.Sprintf("mode %04o to %04o", a.Stat.Mode&bits, b.Stat.Mode&bits))
	}
	if a.Stat.Uid != b.Stat.Uid || a.Stat.Gid != b.Stat.Gid {
		what = append(what, fmt.Sprintf("owner %d:%d to %d:%d", a.Stat.Uid, a.Stat.Gid, b.Stat.Uid, b.Stat.Gid))
	}
	return what, nil
}

func sameContent(a, b *Touch) (bool, error) {
	f, err := a.open()
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := b.open()
	if err != nil {
		return false, err
	}
	defer g.Close()
	return SameContent(f, g)
}
