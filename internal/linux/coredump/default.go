package coredump

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/sys"
)

// usesPIDFile tells whether cores are named with a number; see core(5).
const usesPIDFile = "/proc/sys/kernel/core_uses_pid"

// openDefault opens the file that the kernel would have written the core to, as it
// does (fs/coredump.c): in the working directory of the process, with its ids and
// capabilities, over no link and into nothing but a file of its own.
func openDefault(p *Process) (*os.File, error) {
	if p.rootOnly {
		return nil, errors.New("only root may see it, and the working directory is anybody's")
	}
	name := kernelDefault
	if text, err := os.ReadFile(usesPIDFile); err == nil && strings.TrimSpace(string(text)) != "0" {
		name += "." + strconv.Itoa(p.Inside)
	}
	// A magic link: opened with our own rights, and only once.
	dir, err := unix.Open(p.file("cwd"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open its working directory: %w", err)
	}
	defer unix.Close(dir)
	keeps := p.effective
	if !p.sameUsers() {
		keeps = 0
	}
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result)
	go func() {
		// The thread ends with the goroutine: nobody else runs with what it has become.
		runtime.LockOSThread()
		if err := p.become(keeps); err != nil {
			done <- result{nil, err}
			return
		}
		file, err := create(dir, name, p.fsuid)
		done <- result{file, err}
	}()
	r := <-done
	return r.file, r.err
}

// become gives the calling thread the rights of the process in file systems.
func (p *Process) become(keeps uint64) error {
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

// create opens or makes the file. O_NONBLOCK is for a pipe of that name, which is
// refused then.
func create(dir int, name string, uid uint32) (*os.File, error) {
	const flags = unix.O_CREAT | unix.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the file %q in its working directory: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || st.Uid != uid) {
		err = errors.New("it is no file of the process's own")
	}
	if err == nil {
		err = unix.Ftruncate(fd, 0)
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
