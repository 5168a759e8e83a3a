package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	mobymount "github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/linux/holders"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/tartree"
)

// GraftSpec is what [Engine.ContainerGraft] mounts.
type GraftSpec struct {
	Source      string // a directory or file of the host, absolute
	Destination string // in the container, absolute
	RW          bool
}

// ContainerGraft mounts a directory or file of the host, and nothing that is mounted below it, into a container that
// runs. It stays until it is taken back or the run ends. Owners are mapped as with a bind mount of `run`.
func (e *Engine) ContainerGraft(ctx context.Context, ref string, g GraftSpec) (state.Graft, error) {
	var done state.Graft
	if err := g.check(); err != nil {
		return done, err
	}
	err := e.onMounts(ctx, ref, "mount graft", func(c *ctr, v *view) error {
		if slices.ContainsFunc(graftsOf(v), func(x state.Graft) bool { return x.Destination == g.Destination }) {
			return problem.WithHint(conflict("something is grafted at %s of container %s already", g.Destination, v.Name),
				"porthole mount ungraft "+v.Name+" "+g.Destination)
		}
		var err error
		if done, err = e.graft(v, g); err != nil {
			return fmt.Errorf("graft %s to %s of container %s: %w", g.Source, g.Destination, v.Name, err)
		}
		done.Run, done.Since = v.Life.Run, time.Now()
		before := v.Life.Grafts
		err = e.saveOrUndo(ctx, c, func(v *view) {
			// Of earlier runs only where there was something is of use, and once.
			kept := slices.DeleteFunc(slices.Clone(before), func(x state.Graft) bool { return x.Destination == g.Destination })
			v.Life.Grafts = append(kept, done)
		}, func(v *view) { v.Life.Grafts = before })
		if err != nil {
			return errors.Join(err, e.ungraft(v, done))
		}
		attributes := graftAttributes(done)
		if option := e.preciousPlaces(ctx).graftOption(ctx, done); option != "" {
			attributes[dangerousKey] = option
		}
		e.emit(ctx, v, events.Action("mount graft"), attributes)
		return nil
	})
	return done, err
}

// ContainerUngraft takes back what ContainerGraft has mounted.
func (e *Engine) ContainerUngraft(ctx context.Context, ref, destination string) error {
	destination = path.Clean(destination)
	return e.onMounts(ctx, ref, "mount ungraft", func(c *ctr, v *view) error {
		list := graftsOf(v)
		i := slices.IndexFunc(list, func(x state.Graft) bool { return x.Destination == destination })
		if i < 0 {
			return problem.WithHint(notFound("nothing is grafted at %s of container %s", destination, v.Name), "porthole mount ls "+v.Name)
		}
		held := holders.Of(ctx, list[i].MountID, "")
		if err := e.ungraft(v, list[i]); err != nil {
			return fmt.Errorf("take %s of container %s back: %w", destination, v.Name, err)
		}
		left := slices.DeleteFunc(slices.Clone(v.Life.Grafts), func(x state.Graft) bool { return x.Destination == destination })
		// What could not be saved holds: it is taken back.
		change := func(v *view) { v.Life.Grafts = left }
		if err := e.saveOrUndo(ctx, c, change, change); err != nil {
			return err
		}
		attributes := graftAttributes(list[i])
		if e.addHolders(attributes, held); len(held) > 0 {
			e.log.Warn("graft is in use: it was detached, and its file system is let go when they let it go", "container", c.id, "destination", destination, "held_by", attributes["heldBy"])
		}
		e.emit(ctx, v, events.Action("mount ungraft"), attributes)
		return nil
	})
}

// ContainerGrafts lists what is grafted into a container: nothing if it does not run.
func (e *Engine) ContainerGrafts(ref string) ([]state.Graft, error) {
	c, err := e.lookUp(ref)
	if err != nil {
		return nil, err
	}
	return graftsOf(c.view()), nil
}

func graftsOf(v *view) []state.Graft {
	list := []state.Graft{}
	for _, g := range v.Life.Grafts {
		if g.Run == v.Life.Run && v.pid() > 0 {
			list = append(list, g)
		}
	}
	return list
}

func graftAttributes(g state.Graft) map[string]string {
	mode := "ro"
	if g.RW {
		mode = "rw"
	}
	return map[string]string{"source": g.Source, "destination": g.Destination, "mode": mode}
}

func (g *GraftSpec) check() error {
	if !path.IsAbs(g.Source) || !path.IsAbs(g.Destination) {
		return invalid("invalid graft %s:%s: source and destination must be absolute paths", g.Source, g.Destination)
	}
	g.Source, g.Destination = path.Clean(g.Source), path.Clean(g.Destination)
	for _, top := range []string{"/proc", "/sys"} {
		if g.Destination == "/" || g.Destination == top || strings.HasPrefix(g.Destination, top+"/") {
			return invalid("invalid graft: nothing can be mounted at %s", g.Destination)
		}
	}
	switch _, err := os.Stat(g.Source); {
	case errors.Is(err, fs.ErrNotExist):
		return invalid("invalid graft: bind source path does not exist: %s", g.Source)
	case err != nil:
		return invalid("invalid graft: %v", err)
	}
	return nil
}

// onMounts calls fn for a container that runs, in its turn.
func (e *Engine) onMounts(ctx context.Context, ref, verb string, fn func(*ctr, *view) error) error {
	c, done, err := e.operate(ctx, verb, ref)
	if err != nil {
		return err
	}
	defer done()
	release, err := c.turn.take(ctx, verb)
	if err != nil {
		return err
	}
	defer release()
	v := c.view()
	if v.pid() == 0 {
		return errNoTask(v)
	}
	return fn(c, v)
}

// insideOf calls fn on a thread in a container's mount namespace, as its root, with that namespace's root directory. The
// container's programs take no part in it, so that it works as well while they are paused.
func (e *Engine) insideOf(v *view, fn func(root *os.File) error) error {
	mnt, err := namespaceOf(v, ns.Mount)
	if err != nil {
		return err
	}
	defer mnt.Close()
	select {
	case <-v.task.Done(): // then the pid may have become somebody else's
		return errNotRunning(v.ID)
	default:
	}
	return ns.Do([]ns.Entry{{Kind: ns.Mount, File: mnt}}, func() error {
		if err := becomeRoot(tartree.IDs{Host: v.IDs.Host, Size: v.IDs.Size}); err != nil {
			return err
		}
		root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer root.Close()
		return fn(root)
	})
}

// graft mounts the source, which is opened and mapped in the host's own namespaces.
func (e *Engine) graft(v *view, g GraftSpec) (done state.Graft, err error) {
	var user *os.File
	if v.IDs.Size > 0 {
		if user, err = namespaceOf(v, ns.User); err != nil {
			return done, err
		}
		defer user.Close()
	}
	p, err := e.openPlace(nil, v, state.Mount{Type: mobymount.TypeBind, Source: g.Source, Destination: g.Destination, RW: g.RW, NonRecursive: true}, user)
	if errors.Is(err, mount.ErrNotMappable) {
		return done, problem.WithHint(invalid("%v", err), "the filesystem has no support for it; porthole cp copies files in")
	}
	if err != nil {
		return done, err
	}
	defer p.mount.Close()
	done = state.Graft{Source: g.Source, Destination: g.Destination, RW: g.RW}
	return done, e.insideOf(v, func(root *os.File) error {
		done.Made = missing(root, g.Destination)
		target, err := mount.Target(root, g.Destination, p.isFile)
		if err == nil {
			err = mount.Move(p.mount, target, "")
			target.Close()
		}
		if err == nil {
			// The mount goes with its place, not with this descriptor, from now on.
			done.MountID, err = mountID(p.mount)
		}
		if err != nil {
			takeAway(root, done.Made)
		}
		if errors.Is(err, unix.EROFS) {
			err = problem.WithHint(invalid("%v", err), "its root filesystem is read-only: choose a directory that is there")
		}
		return err
	})
}

// ungraft detaches a mount of ours, and takes away the directories that were made for it.
func (e *Engine) ungraft(v *view, g state.Graft) error {
	// A file cannot be entered to be unmounted, and the container has another /proc: our own, entered by descriptor.
	fds, err := os.OpenFile("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer fds.Close()
	return e.insideOf(v, func(root *os.File) error {
		at, err := mount.OpenInRoot(root, g.Destination, unix.O_PATH, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the container has taken it away, with the place
		}
		if err != nil {
			return err
		}
		defer at.Close()
		switch id, err := mountID(at); {
		case err != nil:
			return err
		case id != g.MountID:
			mounted, err := isMountRoot(at)
			if err != nil || !mounted {
				return err // unmounted by the container: only the record is left
			}
			return problem.WithHint(conflict("something else has been mounted over it"), "porthole mounts -a "+v.Name)
		}
		if err := unix.Fchdir(int(fds.Fd())); err != nil {
			return os.NewSyscallError("fchdir", err)
		}
		if err := unix.Unmount(strconv.Itoa(int(at.Fd())), unix.MNT_DETACH); err != nil {
			return os.NewSyscallError("umount", err)
		}
		takeAway(root, g.Made)
		return nil
	})
}

// missing are the parts of a path that are not there, the outermost first.
func missing(root *os.File, name string) (list []string) {
	for at := name; at != "/"; at = path.Dir(at) {
		f, err := mount.OpenInRoot(root, at, unix.O_PATH, 0)
		if !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				f.Close()
			}
			break
		}
		list = append(list, at)
	}
	slices.Reverse(list)
	return list
}

// takeAway removes places that were made, as far as nobody has put anything there meanwhile.
func takeAway(root *os.File, made []string) {
	for _, name := range slices.Backward(made) {
		dir, err := mount.OpenInRoot(root, path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return
		}
		base := path.Base(name)
		err = unix.Unlinkat(int(dir.Fd()), base, unix.AT_REMOVEDIR)
		var st unix.Stat_t
		if errors.Is(err, unix.ENOTDIR) && unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Size == 0 {
			err = unix.Unlinkat(int(dir.Fd()), base, 0)
		}
		dir.Close()
		if err != nil {
			return // it is used
		}
	}
}

func statMount(f *os.File) (st unix.Statx_t, err error) {
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return st, os.NewSyscallError("statx", err)
	}
	return st, nil
}

func mountID(f *os.File) (uint64, error) {
	st, err := statMount(f)
	return st.Mnt_id, err
}

func isMountRoot(f *os.File) (bool, error) {
	st, err := statMount(f)
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, err
}
