package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/sys"
)

const fileMode0666 fs.FileMode = 0o666

// preparer opens the files of a plan, with all the rights that the daemon has.
type preparer struct {
	r      *Runtime
	bundle *Bundle
	userns *os.File // nil: the host's
}

// prepare opens all sources in order. On error nothing stays open.
func (p *preparer) prepare(c *compiled) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			for i, f := range files {
				if c.sources[i].kind != sourceGiven {
					f.Close()
				}
			}
			files = nil
		}
	}()
	for i := range c.sources {
		f, err := p.source(&c.sources[i])
		if err != nil {
			return files, p.explain(&c.sources[i], c.plan.Files[i], err)
		}
		files = append(files, f)
	}
	return files, nil
}

// explain words the failure of what the user asked for as Docker does.
func (p *preparer) explain(s *source, name string, err error) error {
	if _, ok := errors.AsType[*mount.PartError](err); ok {
		return err // which is worded already
	}
	e := &StartError{Step: "prepare " + name, Op: plan.OpMount, Message: err.Error(), err: err}
	errors.As(err, &e.Errno)
	switch s.kind {
	case sourceBind:
		e.Path = s.bind.path
		e.Message = fmt.Sprintf("error mounting %q to rootfs at %q: %v", s.bind.path, s.mount.Target, err)
	case sourceRoot:
		e.Op, e.Message = plan.OpRoot, fmt.Sprintf("error preparing rootfs: %v", err)
	default: // not of the user's making: the message is ours
	}
	return e
}

func (p *preparer) source(s *source) (*os.File, error) {
	switch s.kind {
	case sourceRoot:
		return p.merge(p.bundle.RootFS)
	case sourceBind:
		return p.bind(s)
	case sourceDev:
		return p.dev(s.dev)
	case sourceFS:
		return mount.New(s.fs.FS, s.fs.Source, s.fs.Options, s.fs.Attributes)
	case sourceNamespace:
		return os.Open(s.path)
	case sourceJoined:
		return s.join.namespace(s.ns)
	case sourceJoinedShm:
		return joinedShm(s.join)
	case sourceTasks:
		return cgroup.OpenTasks(s.path)
	case sourceGiven:
		return s.given, nil
	case sourceTools:
		return toolsMount(p.bundle.Tools)
	case sourceInit:
		return p.r.initBinary()
	case sourceMountNS:
		return nil, errors.New("a mount namespace is opened by the shim")
	}
	return nil, fmt.Errorf("unknown kind of source %d", s.kind)
}

// merge makes the filesystem of layers: the container's root, or one of its
// mounts.
func (p *preparer) merge(l Layers) (*os.File, error) {
	if len(l.Lower) == 0 {
		return nil, errors.New("filesystem has no layers")
	}
	var below []string
	for _, dir := range append(slices.Clone(l.Lower), l.Upper, l.Work) {
		rel, err := belowBase(l.Base, dir)
		if err != nil {
			return nil, err
		}
		below = append(below, rel)
	}
	n := len(l.Lower)
	if n == 1 && l.Upper == "" {
		return p.plainRoot(l.Lower[0])
	}
	o := mount.OverlayOptions{Lower: below[:n], Upper: below[n], Work: below[n+1]}
	if p.r.attachLayers {
		return p.attachedOverlay(l.Base, o)
	}
	var m *os.File
	err := p.asContainerRoot(func() error {
		base, err := p.layerBase(l.Base)
		if err != nil {
			return err
		}
		defer base.Close()
		o.Base = base
		m, err = mount.Overlay(o)
		return err
	})
	if errors.Is(err, mount.ErrNeedsAttached) {
		m, err = p.attachedOverlay(l.Base, o)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// belowBase is dir relative to base; an empty dir stays empty.
func belowBase(base, dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	rel, err := filepath.Rel(base, dir)
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("layer %q is not below %q", dir, base)
	}
	return rel, nil
}

// layerBase is the directory of all layers, as the container's root sees it.
func (p *preparer) layerBase(dir string) (*os.File, error) {
	f, err := mount.OpenSource(dir, "")
	if err != nil || p.userns == nil {
		return f, err
	}
	defer f.Close()
	m, err := mount.Clone(f, mount.Single)
	if err != nil {
		return nil, err
	}
	if err := mount.IDMap(m, p.userns, mount.Single); err != nil {
		m.Close()
		return nil, fmt.Errorf("id-map %q: %w", dir, err)
	}
	return m, nil
}

// layerMount is layerBase as a detached mount in any case.
func (p *preparer) layerMount(dir string) (*os.File, error) {
	f, err := p.layerBase(dir)
	if err != nil || p.userns != nil {
		return f, err
	}
	defer f.Close()
	return mount.Clone(f, mount.Single)
}

func (p *preparer) plainRoot(dir string) (*os.File, error) {
	f, err := mount.OpenSource(dir, "")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// Of a root that somebody else has made, what is mounted in it is a part.
	scope := mount.Scope(p.bundle.bare != nil)
	m, err := mount.Clone(f, scope)
	if err != nil {
		return nil, err
	}
	err = mount.SetAttr(m, mount.Attr{Propagation: unix.MS_PRIVATE}, scope)
	if err == nil && p.userns != nil {
		err = mount.IDMap(m, p.userns, mount.Single)
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// attachedOverlay is for kernels that want the layers attached: they are, in a
// mount namespace that nobody else is in and that ends with this function.
func (p *preparer) attachedOverlay(layersBase string, o mount.OverlayOptions) (*os.File, error) {
	dir := filepath.Join(p.r.opts.ExecRoot, p.bundle.ID)
	layers, at := filepath.Join(dir, "layers"), filepath.Join(dir, "rootfs")
	for _, d := range []string{layers, at} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
		defer os.Remove(d)
	}
	var m *os.File
	err := p.asContainerRoot(func() error {
		if err := privateMounts(); err != nil {
			return err
		}
		base, err := p.layerMount(layersBase)
		if err != nil {
			return err
		}
		defer base.Close()
		o.Base = base
		m, err = mount.OverlayLegacy(o, layers, at)
		return err
	})
	return m, err
}

// privateMounts gives the calling thread a mount namespace of its own, from
// which nothing gets back to the host's.
func privateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	return mount.Propagate("/", unix.MS_PRIVATE)
}

// asContainerRoot runs f on a thread that the filesystems take for the
// container's root, and that has the host's capabilities nevertheless: what it
// makes belongs to the container, and overlayfs goes on working with these
// credentials.
func (p *preparer) asContainerRoot(f func() error) error {
	return ns.OnThread(func() error {
		unix.Umask(0) // of this thread: OnThread has unshared it
		if p.bundle.IDs.Size > 0 {
			if err := sys.SetFSIDs(p.bundle.owner(0, 0)); err != nil {
				return err
			}
			if err := sys.RaiseEffective(); err != nil {
				return os.NewSyscallError("capset", err)
			}
		}
		return f()
	})
}

// bind makes a detached mount of a source on the host.
func (p *preparer) bind(s *source) (*os.File, error) {
	if len(s.bind.layers.Lower) > 0 {
		return p.overlayBind(s)
	}
	src, err := mount.OpenSource(s.bind.path, s.bind.part)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return p.bindOf(s, src, s.bind.unmapped)
}

// overlayBind makes the mount of a directory that is spread over several
// layers, or of a part of it, which is found as by a process whose root it is.
// The layers are ID-mapped, so that the mount need not be.
func (p *preparer) overlayBind(s *source) (m *os.File, err error) {
	whole, err := p.merge(s.bind.layers)
	if err != nil {
		return nil, err
	}
	defer whole.Close()
	// Kernels before 6.15 clone only what is attached in the caller's namespace.
	at := filepath.Join(p.r.opts.ExecRoot, p.bundle.ID, "overlay")
	if err := os.Mkdir(at, 0o700); err != nil {
		return nil, err
	}
	defer os.Remove(at)
	err = ns.OnThread(func() error {
		if err := privateMounts(); err != nil {
			return err
		}
		dir, err := mount.OpenSource(at, "")
		if err != nil {
			return err
		}
		defer dir.Close()
		if err := mount.Move(whole, dir, ""); err != nil {
			return err
		}
		src, err := mount.OpenInRoot(whole, filepath.Join("/", s.bind.part), unix.O_PATH, 0)
		if errno, ok := errors.AsType[syscall.Errno](err); ok && s.bind.part != "" {
			return &mount.PartError{Base: s.bind.path, Part: s.bind.part, Err: errno}
		}
		if err != nil {
			return err
		}
		defer src.Close()
		m, err = p.bindOf(s, src, true)
		return err
	})
	return m, err
}

// bindOf makes a detached mount of an open directory or file.
func (p *preparer) bindOf(s *source, src *os.File, unmapped bool) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: s.bind.path, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	s.mount.IsFile = kind != unix.S_IFDIR
	o := s.bind.options
	scope := mount.Scope(o.Recursive)
	m, err := mount.Clone(src, scope)
	if err != nil {
		return nil, err
	}
	userns := p.userns
	if s.bind.owners != nil {
		if userns, err = s.bind.owners.namespace(); err != nil {
			m.Close()
			return nil, err
		}
		defer userns.Close()
	}
	if err := p.dressBind(m, userns, o, scope, unmapped || kind == unix.S_IFCHR || kind == unix.S_IFBLK); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// dressBind gives a bind mount its owners, by a user namespace or none, its
// attributes and its propagation.
func (p *preparer) dressBind(m, userns *os.File, o mount.Options, scope mount.Scope, unmapped bool) error {
	if userns != nil && !unmapped {
		if err := mount.IDMap(m, userns, scope); err != nil {
			return &UnmappableError{Path: m.Name(), err: err}
		}
	}
	if p.userns != nil && o.Propagation() == unix.MS_SHARED {
		// Mounts made by the container would appear on the host.
		return &UnmappableError{Path: m.Name(), err: errors.New("shared propagation needs the host's user namespace")}
	}
	if err := mount.SetAttr(m, o.RecursiveAttr, mount.Recursive); err != nil {
		return err
	}
	return mount.SetAttr(m, o.Attr, mount.Single)
}

// UnmappableError says that a mount is not possible in a user namespace of the
// container's own, but would be in the host's.
type UnmappableError struct {
	Path string
	err  error
}

func (e *UnmappableError) Error() string {
	return fmt.Sprintf("%q cannot be mounted in a user namespace: %v", e.Path, e.err)
}

// Unwrap gives the cause.
func (e *UnmappableError) Unwrap() error { return e.err }

// dev makes and fills /dev. Device nodes on a tmpfs of the host can be used in
// a user namespace, where only the host's root could make them.
func (p *preparer) dev(d *dev) (*os.File, error) {
	options := slices.Clone(d.options.Data)
	uid, gid := p.bundle.owner(0, 0)
	options = append(options, fmt.Sprintf("uid=%d", uid), fmt.Sprintf("gid=%d", gid))
	readOnly := d.options.Attr.Set & unix.MOUNT_ATTR_RDONLY
	var m *os.File
	err := p.asContainerRoot(func() (err error) {
		m, err = mount.New("tmpfs", "tmpfs", options, d.options.Attr.Set&^readOnly)
		if err != nil {
			return err
		}
		if err := p.fillDev(int(m.Fd()), d); err != nil {
			m.Close()
			return err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make /dev: %w", err)
	}
	if err := mount.SetAttr(m, mount.Attr{Set: readOnly}, mount.Single); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (p *preparer) fillDev(fd int, d *dev) error {
	for _, n := range d.nodes {
		if err := makeParents(fd, n.Path); err != nil {
			return err
		}
		if err := unix.Mknodat(fd, n.Path, n.Mode, int(unix.Mkdev(n.Major, n.Minor))); err != nil {
			return &os.PathError{Op: "mknod", Path: "/dev/" + n.Path, Err: err}
		}
		if n.UID != 0 || n.GID != 0 {
			uid, gid := p.bundle.owner(n.UID, n.GID)
			if err := unix.Fchownat(fd, n.Path, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return &os.PathError{Op: "chown", Path: "/dev/" + n.Path, Err: err}
			}
		}
	}
	for name, target := range d.links {
		if err := unix.Symlinkat(target, fd, name); err != nil {
			return &os.PathError{Op: "symlink", Path: "/dev/" + name, Err: err}
		}
	}
	for _, name := range d.dirs {
		if err := makeParents(fd, name+"/x"); err != nil {
			return err
		}
	}
	if d.console {
		if err := unix.Mknodat(fd, "console", unix.S_IFREG|0o620, 0); err != nil {
			return &os.PathError{Op: "create", Path: "/dev/console", Err: err}
		}
	}
	return nil
}

// makeParents makes the directories above name in a tree that nobody else sees.
func makeParents(fd int, name string) error {
	for i, r := range name {
		if r != '/' {
			continue
		}
		if err := unix.Mkdirat(fd, name[:i], 0o755); err != nil && err != unix.EEXIST {
			return &os.PathError{Op: "mkdir", Path: "/dev/" + name[:i], Err: err}
		}
	}
	return nil
}

// joinedShm is the /dev/shm of a container that runs, taken inside its mount
// namespace. What it has put there instead is not taken for it: the path is
// resolved without links and must end at a tmpfs's root.
func joinedShm(c *Container) (*os.File, error) {
	mnt, err := c.namespace(ns.Mount)
	if err != nil {
		return nil, err
	}
	defer mnt.Close()
	var m *os.File
	err = ns.Do([]ns.Entry{{Kind: ns.Mount, File: mnt}}, func() error {
		how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_IN_ROOT}
		fd, err := unix.Openat2(unix.AT_FDCWD, "/dev/shm", &how)
		if err != nil {
			return &os.PathError{Op: "open", Path: "/dev/shm", Err: err}
		}
		shm := os.NewFile(uintptr(fd), "/dev/shm")
		defer shm.Close()
		var st unix.Statfs_t
		if err := unix.Fstatfs(fd, &st); err != nil {
			return os.NewSyscallError("fstatfs", err)
		}
		if st.Type != unix.TMPFS_MAGIC {
			return fmt.Errorf("/dev/shm of container %s is not a tmpfs", c.ID())
		}
		m, err = mount.Clone(shm, mount.Single)
		return err
	})
	return m, err
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
