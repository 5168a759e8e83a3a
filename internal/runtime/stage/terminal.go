package stage

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim/wire"
	"github.com/portholehq/porthole/internal/sys"
)

// terminal opens a pseudo terminal in the container's own devpts, gives its
// master to the shim and makes the slave the process's controlling terminal.
func (s *stage) terminal(st *plan.Step) error {
	master, err := mount.OpenInRoot(s.root, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer master.Close()
	if ok, err := isFS(master, unix.DEVPTS_SUPER_MAGIC); err != nil || !ok {
		return fmt.Errorf("open terminal: %q is not in a devpts", "/dev/pts/ptmx")
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock terminal: %w", err)
	}
	// By descriptor: /dev/pts/N may be anything in a container that runs.
	slaveFD, err := sys.PTYPeer(fd)
	if err != nil {
		return fmt.Errorf("open terminal's slave: %w", err)
	}
	slave := os.NewFile(uintptr(slaveFD), "slave")
	defer slave.Close()
	if st.Rows != 0 || st.Columns != 0 {
		size := unix.Winsize{Row: st.Rows, Col: st.Columns}
		if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &size); err != nil {
			return fmt.Errorf("set size of terminal: %w", err)
		}
	}
	if err := s.conn.SendWord(wire.StagePTY, nil, master); err != nil {
		return err
	}
	if err := newSession(); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(slaveFD, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("set controlling terminal: %w", err)
	}
	for target := range 3 {
		if err := unix.Dup3(slaveFD, target, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	if st.Path == "" {
		return nil
	}
	return s.bindConsole(slave, st.Path)
}

func (s *stage) bindConsole(slave *os.File, name string) error {
	target, err := mount.Target(s.root, name, true)
	if err != nil {
		return fmt.Errorf("bind console: %w", err)
	}
	defer target.Close()
	m, err := mount.Clone(slave, mount.Single)
	if err != nil {
		return fmt.Errorf("bind console: %w", err)
	}
	defer m.Close()
	if err := mount.Move(m, target, ""); err != nil {
		return fmt.Errorf("bind console: %w", err)
	}
	return nil
}

// newSession makes the process leader of a session, if it is not already.
func newSession() error {
	if _, err := unix.Setsid(); err != nil && err != unix.EPERM {
		return os.NewSyscallError("setsid", err)
	}
	return nil
}
