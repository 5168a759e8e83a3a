//go:build unix

package tty

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// waitReadable waits until a read from fd would not block, or until stop is
// closed, which makes it false.
func waitReadable(fd uintptr, stop <-chan struct{}) bool {
	r, w, err := os.Pipe()
	if err != nil {
		return true // the read blocks then, as without us
	}
	defer r.Close()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-stop:
		case <-done:
		}
		_ = w.Close()
	}()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(r.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err != nil || fds[1].Revents == 0
	}
}
