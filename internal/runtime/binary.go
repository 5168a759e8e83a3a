package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// sealedBinary copies an executable into a memory file that nothing can write
// to any more: neither a container that gets hold of it through /proc/PID/exe
// nor somebody who replaces the file on disk while containers run.
//
// With mode 0111 nobody but the host's root may read it. That makes every
// process that executes it not dumpable from its first instruction, and
// untraceable from within a user namespace, whatever rights the tracer has
// there (fs/exec.c, would_dump): a container cannot look into the stage that
// enters it.
func sealedBinary(path, name string, mode uint32) (*os.File, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open shim binary: %w", err)
	}
	defer src.Close()
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3, where all of them are executable
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, src); err != nil {
		f.Close()
		return nil, fmt.Errorf("copy shim binary: %w", err)
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		f.Close()
		return nil, os.NewSyscallError("fchmod", err)
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal shim binary: %w", err)
	}
	return aboveOthers(f)
}

// aboveOthers moves a descriptor that is executed by its number out of the way
// of those that the new process gets in its low numbers before that.
func aboveOthers(f *os.File) (*os.File, error) {
	const lowest = 64
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, lowest)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
