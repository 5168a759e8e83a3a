package coredump

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/sys"
)

// usesPIDFile tells whether cores are named with a number; see core(5).
const usesPIDFile = "/proc/sys/kernel/core_uses_pid"

// withDefault opens the file that the kernel would have written the core to, as it
// does (fs/coredump.c): in the working directory of the process, with its ids and
// capabilities, in place of what had the name. use runs with them as well, so that
// quotas and what is reserved for root hold for what it writes.
func withDefault(p *Process, use func(*os.File) error) error {
	if p.rootOnly {
		return errors.New("only root may see it, and the working directory is anybody's")
	}
	name := kernelDefault
	if text, err := os.ReadFile(usesPIDFile); err == nil && strings.TrimSpace(string(text)) != "0" {
		name += "." + strconv.Itoa(p.Inside)
	}
	// A magic link: opened with our own rights, and only once.
	dir, err := unix.Open(p.file("cwd"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open its working directory: %w", err)
	}
	defer unix.Close(dir)
	// It may have been killed meanwhile, and the directory be that of another with its number.
	if err := p.alive(); err != nil {
		return err
	}
	return ns.OnThread(func() error {
		if err := p.become(); err != nil {
			return err
		}
		file, err := create(dir, name, p.fsuid)
		if err != nil {
			return err
		}
		defer file.Close()
		return use(file)
	})
}

// become gives the calling thread the rights of the process in file systems.
func (p *Process) become() error {
	keeps := p.effective
	if !p.sameUsers {
		keeps = 0
	}
	if err := sys.Setgroups(p.groups); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := sys.SetFSIDs(p.fsuid, p.fsgid); err != nil {
		return err
	}
	sets, err := sys.Capget()
	if err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	sets.Effective = sets.Permitted & keeps
	if err := sys.Capset(sets); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// create makes the file, in place of what had its name: a file that is there may
// be open, or be readable by others. What is then there under the name and is no
// new file of the process's own is refused.
func create(dir int, name string, uid uint32) (*os.File, error) {
	_ = unix.Unlinkat(dir, name, 0) // if it stays, the next call fails
	const flags = unix.O_CREAT | unix.O_EXCL | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the file %q in its working directory: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o677 != 0o600 || st.Nlink != 1 || st.Uid != uid) {
		err = errors.New("it is no file of the process's own")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the file %q in its working directory: %w", name, err), file.Close())
	}
	return file, nil
}

// fill writes a core with holes in place of pages of zeros, as the kernel does.
func fill(file *os.File, core io.Reader) error {
	page, zeros := make([]byte, smallest), make([]byte, smallest)
	var size int64
	for {
		n, err := io.ReadFull(core, page)
		if !bytes.Equal(page[:n], zeros[:n]) {
			if _, err := file.WriteAt(page[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return file.Truncate(size)
		}
		if err != nil {
			return errors.Join(err, file.Truncate(size))
		}
	}
}
