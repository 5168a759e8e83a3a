package stage

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// copyMounts has the process see the container's mounts in a namespace of its
// own, so that what it mounts there is not seen by the container.
func (s *stage) copyMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	// Before anything is mounted: a copy of a shared mount is its peer.
	if err := mount.Propagate("/", unix.MS_PRIVATE); err != nil {
		return err
	}
	s.root.Close()
	return s.takeRoot()
}

// carry takes a mount along to a root that has been attached on top of the one
// in which this process still looks for paths. The container may change its
// mounts meanwhile: what has gone is left out.
func (s *stage) carry(st *plan.Step) error {
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/", Err: err}
	}
	from := os.NewFile(uintptr(old), "/")
	defer from.Close()
	src, err := mount.OpenInRoot(from, st.Path, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer src.Close()
	target, err := mount.OpenInRoot(s.root, st.Path, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer target.Close()
	m, err := mount.Clone(src, mount.Recursive)
	if err != nil {
		return fmt.Errorf("take mount %q along: %w", st.Path, err)
	}
	defer m.Close()
	if err := mount.SetAttr(m, mount.Attr{Set: st.Flags}, mount.Recursive); err != nil {
		return fmt.Errorf("take mount %q along: %w", st.Path, err)
	}
	if err := mount.Move(m, target, ""); err != nil {
		return fmt.Errorf("take mount %q along: %w", st.Path, err)
	}
	return nil
}

// tools places our tools. A container that could put them elsewhere could put
// something else in their place: nobody can in procfs.
func (s *stage) tools(st *plan.Step) error {
	target, err := mount.OpenInRoot(s.root, path.Join(plan.ToolsDir, st.Path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("place tools: %w", err)
	}
	defer target.Close()
	// What is below our tools is a directory of ours.
	if ok, err := isFS(target, unix.PROC_SUPER_MAGIC); st.Path == "" && (err != nil || !ok) {
		return fmt.Errorf("place tools: the container has something else than procfs at %q", plan.ToolsDir)
	}
	if err := mount.Move(s.files[st.File], target, ""); err != nil {
		return fmt.Errorf("place tools: %w", err)
	}
	return s.files[st.File].Close()
}
