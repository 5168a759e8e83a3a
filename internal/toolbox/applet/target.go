package applet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// In a debug session /proc is the target's, and this process is none of the
// target's: it has no entry there, and the numbers that /proc shows are not
// those that its system calls take.

// foreignProc tells that.
func foreignProc() bool {
	_, err := os.Lstat("/proc/self/stat")
	return errors.Is(err, os.ErrNotExist) && isProc()
}

func isProc() bool {
	var st unix.Statfs_t
	return unix.Statfs("/proc", &st) == nil && int64(st.Type) == unix.PROC_SUPER_MAGIC //nolint:unconvert // of another type on other machines
}

// mountTable reads the mounts: this process's, or else those of the target's
// first process, of which this one has a copy.
func mountTable() ([]byte, error) {
	if foreignProc() {
		return os.ReadFile("/proc/1/mounts")
	}
	return os.ReadFile("/proc/self/mounts")
}

// sendSignal sends a signal to the process that /proc shows under a number. In
// a debug session that is done by its directory, which stands for the process as
// a pidfd does (pidfd_send_signal(2)).
func sendSignal(pid int, s syscall.Signal) error {
	if !foreignProc() {
		return syscall.Kill(pid, s)
	}
	if pid <= 0 {
		return errors.New("process groups of the target cannot be signalled from outside of it")
	}
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return unix.ESRCH
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.PidfdSendSignal(fd, s, nil, 0)
}

// terminalName is the path of the terminal that is file descriptor fd.
func terminalName(fd int) (string, error) {
	if name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err == nil {
		return name, nil
	}
	var want unix.Stat_t
	if err := unix.Fstat(fd, &want); err != nil {
		return "", err
	}
	names, err := filepath.Glob("/dev/pts/*")
	if err != nil {
		return "", err
	}
	for _, name := range append(names, "/dev/console", "/dev/tty") {
		var st unix.Stat_t
		if unix.Stat(name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == want.Rdev {
			return name, nil
		}
	}
	return "", fmt.Errorf("no file is terminal %d:%d", unix.Major(want.Rdev), unix.Minor(want.Rdev))
}
