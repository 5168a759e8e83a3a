package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/image/layers"
	"github.com/portholehq/porthole/internal/tartree"
)

// ChangeKind is what has happened to a path.
type ChangeKind uint8

// The kinds, with the numbers of Docker's API.
const (
	Modified ChangeKind = iota
	Added
	Deleted
)

// Change is one path of a container that is not as in its image.
type Change struct {
	Path string // absolute, in the container
	Kind ChangeKind
}

// RootFSChanges compares what a container has written with its image, in the
// order of a walk with sorted names. A directory in which something has
// changed has changed, too. Places that were only made to mount something
// there (targets, absolute paths) are no change.
func (s *Store) RootFSChanges(ctx context.Context, containerID string, targets []string) ([]Change, error) {
	layers, err := s.RootFS(ctx, containerID)
	if err != nil {
		return nil, err
	}
	d, err := compareLayers(ctx, layers, targets)
	if err != nil {
		return nil, fmt.Errorf("compare container %s with its image: %w", containerID, err)
	}
	return d.changes, nil
}

// LayerChanges is RootFSChanges for any layers.
func (s *Store) LayerChanges(ctx context.Context, l Layers, targets []string) ([]Change, error) {
	d, err := compareLayers(ctx, l, targets)
	if err != nil {
		return nil, fmt.Errorf("compare layers: %w", err)
	}
	return d.changes, nil
}

// layerDiff is the result of comparing a writable layer with those below it.
type layerDiff struct {
	changes []Change
	// void are paths of the writable layer that mean nothing: places for
	// mounts, and notes about the absence of what was never there.
	void map[string]bool
}

// differ walks through a writable layer.
type differ struct {
	layerDiff
	ctx     context.Context // lives as long as one walk
	targets map[string]bool
	above   map[string]bool // directories above targets
}

func compareLayers(ctx context.Context, l Layers, targets []string) (*layerDiff, error) {
	d := &differ{ctx: ctx, layerDiff: layerDiff{void: map[string]bool{}}, targets: map[string]bool{}, above: map[string]bool{}}
	for _, t := range targets {
		t = path.Clean(t)
		d.targets[t] = true
		for t != "/" {
			t = path.Dir(t)
			d.above[t] = true
		}
	}
	upper, err := openDirectory(l.Upper)
	if err != nil {
		return nil, err
	}
	defer upper.Close()
	lower, err := l.OpenImage()
	if err != nil {
		return nil, err
	}
	defer lower.Close()
	if err := d.dir(upper, lower, "/"); err != nil {
		return nil, err
	}
	return &d.layerDiff, nil
}

// dir compares two directories. lower is nil when there is none below.
func (d *differ) dir(upper, lower *os.File, at string) error {
	if d.ctx.Err() != nil {
		return context.Cause(d.ctx)
	}
	notes, err := layers.ReadNotes(upper)
	if err != nil {
		return &os.PathError{Op: "read", Path: at, Err: err}
	}
	if notes.Redirected {
		return failf(errdefs.ErrNotImplemented, "directory %s has been renamed by reference (overlayfs's redirect_dir), which cannot be compared", at)
	}
	names, err := tartree.Names(upper)
	if err != nil {
		return &os.PathError{Op: "read", Path: at, Err: err}
	}
	hidden := map[string]bool{}
	if notes.Opaque && lower != nil {
		below, err := tartree.Names(lower)
		if err != nil {
			return &os.PathError{Op: "read", Path: at, Err: err}
		}
		for _, n := range below {
			if _, found := slices.BinarySearch(names, n); !found {
				hidden[n] = true
			}
		}
	}
	all := slices.Clone(names)
	for n := range hidden {
		all = append(all, n)
	}
	slices.Sort(all)
	for _, n := range all {
		name := path.Join(at, n)
		if hidden[n] {
			d.add(name, Deleted)
			continue
		}
		if err := d.entry(upper, lower, n, name); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

func (d *differ) add(name string, kind ChangeKind) {
	d.changes = append(d.changes, Change{name, kind})
}

func (d *differ) entry(upper, lower *os.File, base, name string) error {
	u, err := openNode(upper, base)
	if err != nil {
		return &os.PathError{Op: "look at", Path: name, Err: err}
	}
	defer u.file.Close()
	l, err := openNode(lower, base)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
		return &os.PathError{Op: "look at", Path: name, Err: err}
	}
	if l != nil {
		defer l.file.Close()
	}
	switch {
	case u.isWhiteout() && l == nil:
		d.void[name] = true
		return nil
	case u.isWhiteout():
		d.add(name, Deleted)
		return nil
	case l == nil:
		return d.added(u, name)
	}
	return d.both(u, l, name)
}

// added lists something that the image does not have, and all that is in it.
func (d *differ) added(u *node, name string) error {
	at := len(d.changes)
	d.add(name, Added)
	if u.isDir() {
		if err := d.dir(u.file, nil, name); err != nil {
			return err
		}
	}
	bare := len(d.changes) == at+1 && (u.isDir() || u.stat.Size == 0)
	if !bare || !d.targets[name] && !(u.isDir() && d.onlyWay(u, name)) {
		return nil
	}
	d.changes = d.changes[:at]
	d.void[name] = true
	return nil
}

// onlyWay tells that a directory was made to lead to the place of a mount:
// there is something in it, and it is void.
func (d *differ) onlyWay(u *node, name string) bool {
	if !d.above[name] {
		return false
	}
	names, err := tartree.Names(u.file)
	return err == nil && len(names) > 0
}

func (d *differ) both(u, l *node, name string) error {
	at := len(d.changes)
	changed, err := u.differs(l)
	if err != nil {
		return &os.PathError{Op: "compare", Path: name, Err: err}
	}
	if u.isDir() {
		below := l.file
		if !l.isDir() {
			below = nil
		}
		if err := d.dir(u.file, below, name); err != nil {
			return err
		}
	}
	if changed || len(d.changes) > at {
		d.changes = slices.Insert(d.changes, at, Change{name, Modified})
	}
	return nil
}

// node is a file that is looked at.
type node struct {
	file *os.File // for looking only
	stat unix.Stat_t
}

// openNode returns nil and ENOENT when dir is nil.
func openNode(dir *os.File, base string) (*node, error) {
	if dir == nil {
		return nil, unix.ENOENT
	}
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	n := &node{file: os.NewFile(uintptr(fd), base)}
	if err := unix.Fstat(fd, &n.stat); err != nil {
		n.file.Close()
		return nil, err
	}
	return n, nil
}

func (n *node) isDir() bool     { return n.stat.Mode&unix.S_IFMT == unix.S_IFDIR }
func (n *node) isRegular() bool { return n.stat.Mode&unix.S_IFMT == unix.S_IFREG }
func (n *node) path() string    { return fmt.Sprintf("/proc/self/fd/%d", n.file.Fd()) }

// isWhiteout tells that overlayfs notes here that a file is gone.
func (n *node) isWhiteout() bool { return layers.IsWhiteout(&n.stat) }

// differs compares what can be seen of two files. Of directories size and time
// say nothing. A file may have been copied and then left as it was, or written
// to and given its old time: then the content decides.
func (n *node) differs(o *node) (bool, error) {
	a, b := &n.stat, &o.stat
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return true, nil
	}
	if !n.isDir() && (a.Size != b.Size || a.Mtim != b.Mtim) {
		return true, nil
	}
	if !n.isRegular() {
		return false, nil
	}
	if !bytes.Equal(capabilities(n.path()), capabilities(o.path())) {
		return true, nil
	}
	same, err := sameContent(n.path(), o.path())
	return !same, err
}

func capabilities(path string) []byte {
	buf := make([]byte, 64)
	n, err := unix.Getxattr(path, "security.capability", buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

func sameContent(a, b string) (bool, error) {
	f, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer g.Close()
	return layers.SameContent(f, g)
}
