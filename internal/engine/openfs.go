package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/moby/api/types/container"
	mobymount "github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/sys"
	"github.com/portholehq/porthole/internal/tartree"
	"github.com/portholehq/porthole/internal/undo"
)

// containerFS is a container's files as an open directory: its root filesystem with, if wanted, the volumes, bind mounts
// and network files that it has. What lives in memory only (tmpfs, /proc, /dev) is not there, as with Docker.
//
// Of a container that runs, the root is the very mount it works in, taken out of its mount namespace: a second mount of
// the same layers would not show what the first one writes. Its owners then are those on the host, see ids. Of one that
// does not run, the layers are merged for the occasion. Either way the mounts belong to the descriptor root alone and go
// with it: there is nothing to unmount, whatever happens to the daemon.
type containerFS struct {
	root  *os.File
	ids   tartree.IDs
	steps undo.Stack
}

// Close gives all back. No file opened below root works as a way to others any more.
func (f *containerFS) Close() {
	f.root.Close()
	_ = f.steps.Run() // only gives back the turn
}

// fsUse says what is done with a container's files.
type fsUse struct {
	verb string // for those who wait for a container that does not run
	// write keeps a container that does not run from being started as long as the files are open.
	write bool
	// bare leaves out what is mounted into the root filesystem.
	bare bool
}

// openFS opens a container's files. It waits for verbs that are at work on a container that does not run.
func (e *Engine) openFS(ctx context.Context, c *ctr, use fsUse) (*containerFS, error) {
	for {
		v := c.view()
		if v.pid() == 0 {
			f, err := e.openStopped(ctx, c, use)
			if f != nil || err != nil {
				return f, err
			}
			continue // it was started meanwhile
		}
		f, err := e.openLive(v, use)
		if err == nil {
			return f, nil
		}
		select {
		case <-v.task.Done():
		default:
			return nil, fmt.Errorf("open files of container %s: %w", c.id, err)
		}
		select { // it has just ended, which will be known in a moment
		case <-v.next:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// openStopped returns nothing when the container turns out to run.
func (e *Engine) openStopped(ctx context.Context, c *ctr, use fsUse) (*containerFS, error) {
	release, err := c.turn.take(ctx, use.verb)
	if err != nil {
		return nil, err
	}
	f := &containerFS{}
	f.steps.AddFunc(release)
	v := c.view()
	switch {
	case v.pid() != 0:
		return nil, f.steps.Run()
	case v.removing || v.status() == container.StateRemoving || v.status() == container.StateDead:
		return nil, errors.Join(conflict("container %s is marked for removal", c.id), f.steps.Run())
	}
	if err := e.merge(ctx, f, v, use); err != nil {
		return nil, errors.Join(err, f.steps.Run())
	}
	if !use.write {
		return f, f.steps.Run()
	}
	return f, nil
}

// merge makes f the files of a container that does not run. The caller has its turn.
func (e *Engine) merge(ctx context.Context, f *containerFS, v *view, use fsUse) error {
	layers, err := e.deps.Images.RootFS(ctx, v.ID)
	if err == nil {
		f.root, err = layers.OpenMerged()
	}
	if err == nil {
		err = e.furnish(f, v, use, nil)
	}
	if err == nil {
		return nil
	}
	if f.root != nil {
		f.root.Close()
	}
	return fmt.Errorf("open files of container %s: %w", v.ID, err)
}

// namespaceOf opens a namespace of a container's first process, which may turn out to have ended although its shim has not
// told so yet. The pid may have become somebody else's, until the task is seen not to be done.
func namespaceOf(v *view, kind ns.Kind) (*os.File, error) {
	f, err := ns.Open(v.task.Pid(), kind)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNotRunning(v.ID)
	}
	return f, err
}

func (e *Engine) openLive(v *view, use fsUse) (_ *containerFS, err error) {
	mnt, err := namespaceOf(v, ns.Mount)
	if err != nil {
		return nil, err
	}
	defer mnt.Close()
	var user *os.File
	f := &containerFS{}
	if v.IDs.Size > 0 {
		f.ids = tartree.IDs{Host: v.IDs.Host, Size: v.IDs.Size}
		if user, err = namespaceOf(v, ns.User); err != nil {
			return nil, err
		}
		defer user.Close()
	}
	select {
	case <-v.task.Done(): // then the pid may have become somebody else's
		return nil, errNotRunning(v.ID)
	default:
	}
	if f.root, err = rootOf(mnt); err != nil {
		return nil, err
	}
	if err := e.furnish(f, v, use, user); err != nil {
		f.root.Close()
		return nil, err
	}
	return f, nil
}

// rootOf clones the root mount of a mount namespace. A container with the right to mount can put something else there:
// only the kind of filesystem that we have put there is taken, not a /proc to which we would have other rights than it.
func rootOf(mnt *os.File) (root *os.File, err error) {
	err = ns.Do([]ns.Entry{{Kind: ns.Mount, File: mnt}}, func() error {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: "/", Err: err}
		}
		top := os.NewFile(uintptr(fd), "/")
		defer top.Close()
		var st unix.Statfs_t
		if err := unix.Fstatfs(fd, &st); err != nil {
			return os.NewSyscallError("fstatfs", err)
		}
		if st.Type != unix.OVERLAYFS_SUPER_MAGIC {
			return conflict("something has been mounted over the container's root")
		}
		root, err = mount.Clone(top, mount.Single)
		return err
	})
	return root, err
}

// furnish mounts what belongs to a container into its root, and makes that read-only if it is to be. user is the
// container's user namespace if its files are shown with the host's ids.
func (e *Engine) furnish(f *containerFS, v *view, use fsUse, user *os.File) error {
	if use.bare {
		return nil
	}
	// Until the mounts are cloned.
	var volumes undo.Stack
	defer volumes.Run()
	if err := e.mountVolumes(v, "files-"+randomID(), &volumes); err != nil {
		return err
	}
	return f.as(func() error {
		var places []place
		defer func() {
			for _, p := range places {
				p.mount.Close()
			}
		}()
		for _, m := range e.filesOf(v) {
			p, err := e.openPlace(f, v, m, user)
			if errors.Is(err, unix.ENOENT) {
				continue // there will be nothing before the container's first start, or not any more
			}
			if err != nil {
				return err
			}
			places = append(places, p)
		}
		root, err := assemble(f.root, e.dir(v.ID), places, v.HostConfig.ReadonlyRootfs)
		if err != nil {
			return err
		}
		f.root.Close()
		f.root = root
		return nil
	})
}

// as runs fn on a thread that may make files for the container's root.
func (f *containerFS) as(fn func() error) error {
	return ns.OnThread(func() error {
		if err := becomeRoot(f.ids); err != nil {
			return err
		}
		return fn()
	})
}

// becomeRoot lets the calling thread, which must be one of its own, make files for a container's root.
func becomeRoot(ids tartree.IDs) error {
	unix.Umask(0) // of this thread
	if ids.Size == 0 {
		return nil
	}
	if err := sys.SetFSIDs(ids.Host, ids.Host); err != nil {
		return err
	}
	if err := sys.RaiseEffective(); err != nil {
		return os.NewSyscallError("capset", err)
	}
	return nil
}

// filesOf are the mounts of a container that are files on the host.
func (e *Engine) filesOf(v *view) []state.Mount {
	var list []state.Mount
	covered := map[string]bool{}
	for _, m := range v.Mounts {
		covered[m.Destination] = true
		if m.Type != mobymount.TypeTmpfs {
			list = append(list, m)
		}
	}
	files := e.files(v)
	for dst, src := range map[string]string{"/etc/hosts": files.Hosts, "/etc/hostname": files.Hostname, "/etc/resolv.conf": files.ResolvConf} {
		if !covered[dst] {
			list = append(list, state.Mount{Type: mobymount.TypeBind, Source: src, Destination: dst, RW: true})
		}
	}
	return list
}

// place is a mount on its way to its place in a container's files.
type place struct {
	mount       *os.File
	destination string
	isFile      bool
	part        string // of mount is wanted; empty: all
}

func (e *Engine) openPlace(files *containerFS, v *view, m state.Mount, user *os.File) (p place, err error) {
	if m.Type == mobymount.TypeImage {
		return e.openImagePlace(v, m, user)
	}
	src, err := mount.OpenSource(m.Source, m.Subpath)
	if err != nil {
		return p, err
	}
	defer src.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return p, &os.PathError{Op: "stat", Path: src.Name(), Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	scope := mount.Scope(!m.NonRecursive)
	if m.SwapOwner {
		whom, err := files.user(v)
		if err != nil {
			return p, err
		}
		if user, err = swapNamespace(src, whom, state.IDRange(files.ids)); err != nil {
			return p, err
		}
		defer user.Close()
	}
	p.destination, p.isFile = m.Destination, kind != unix.S_IFDIR
	if p.mount, err = mount.Clone(src, scope); err != nil {
		return p, err
	}
	if user != nil && kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		err = mount.IDMap(p.mount, user, scope)
	}
	if err == nil && !m.RW {
		err = mount.SetAttr(p.mount, mount.Attr{Set: unix.MOUNT_ATTR_RDONLY}, scope)
	}
	if err == nil {
		// Nothing that happens here may happen on the host, too.
		err = mount.SetAttr(p.mount, mount.Attr{Propagation: unix.MS_PRIVATE}, mount.Recursive)
	}
	if err != nil {
		p.mount.Close()
		return p, fmt.Errorf("mount %q at %s: %w", src.Name(), m.Destination, err)
	}
	return p, nil
}

// openImagePlace opens the files of an image that a container mounts. They cannot be written.
func (e *Engine) openImagePlace(v *view, m state.Mount, user *os.File) (p place, err error) {
	layers, err := e.deps.Images.MountedImage(context.Background(), v.ID, m.Source)
	if err != nil {
		return p, err
	}
	p.destination, p.part = m.Destination, m.Subpath
	if p.mount, err = layers.MountImage(user); err != nil || p.part == "" {
		return p, err
	}
	defer func() {
		if err != nil {
			p.mount.Close()
		}
	}()
	src, err := mount.OpenInRoot(p.mount, filepath.Join("/", p.part), unix.O_PATH, 0)
	if err != nil {
		return p, err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return p, err
	}
	p.isFile = !info.IsDir()
	return p, nil
}

// cut makes the mount of a place that of the part that is wanted. For that it is mounted at anchor, for a moment, in the
// mount namespace of the calling thread: kernels before 6.15 clone only what is attached.
func (p *place) cut(anchor *os.File) error {
	if p.part == "" {
		return nil
	}
	if err := mount.Move(p.mount, anchor, ""); err != nil {
		return err
	}
	src, err := mount.OpenInRoot(p.mount, filepath.Join("/", p.part), unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	part, err := mount.Clone(src, mount.Single)
	if err != nil {
		return err
	}
	p.mount.Close()
	p.mount = part
	if err := unix.Unmount(anchor.Name(), unix.MNT_DETACH); err != nil {
		return &os.PathError{Op: "unmount", Path: anchor.Name(), Err: err}
	}
	return nil
}

// assemble puts mounts into a root and returns all together as one detached mount. Kernels before 6.15 only mount upon
// what is attached somewhere, so root is, at a directory of the host in a mount namespace that only this thread is in.
func assemble(root *os.File, at string, places []place, readOnly bool) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if err := mount.Propagate("/", unix.MS_PRIVATE); err != nil {
		return nil, err
	}
	anchor, err := os.OpenFile(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer anchor.Close()
	for i := range places {
		if err := places[i].cut(anchor); err != nil {
			return nil, fmt.Errorf("mount at %s: %w", places[i].destination, err)
		}
	}
	if err := mount.Move(root, anchor, ""); err != nil {
		return nil, fmt.Errorf("attach root filesystem: %w", err)
	}
	for _, p := range places {
		target, err := mount.Target(root, p.destination, p.isFile)
		if err != nil {
			return nil, fmt.Errorf("make place for mount at %s: %w", p.destination, err)
		}
		err = mount.Move(p.mount, target, "")
		target.Close()
		if err != nil {
			return nil, fmt.Errorf("mount at %s: %w", p.destination, err)
		}
	}
	if readOnly {
		if err := mount.SetAttr(root, mount.Attr{Set: unix.MOUNT_ATTR_RDONLY}, mount.Single); err != nil {
			return nil, err
		}
	}
	return mount.Clone(root, mount.Recursive)
}
