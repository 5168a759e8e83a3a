package shim

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// compressDelay is how long the log must not have rotated before its old
// segments are compressed: a container that writes at full speed needs the
// processor, and will soon have dropped them anyway.
const compressDelay = time.Second

// compressLog has old segments compressed until ended is closed; what is then
// left is done in the next run. Each time it is a process of its own,
// short-lived and of low priority: the tables of a zstd encoder are larger than
// a whole shim. It does not outlive the container, whose files may be removed
// as soon as its end is told.
func (s *Server) compressLog(rotated, ended <-chan struct{}) {
	timer := time.NewTimer(compressDelay)
	timer.Stop()
	for {
		select {
		case <-rotated:
			timer.Reset(compressDelay)
		case <-timer.C:
			if err := s.compressOnce(ended); err != nil {
				s.note(fmt.Errorf("compress log: %w", err))
			}
		case <-ended:
			return
		}
	}
}

// compressOnce runs the compressor, which looks for itself what is to be done.
func (s *Server) compressOnce(ended <-chan struct{}) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	files := []*os.File{null, null, null, s.cfg.LogDir}
	p := &process{id: "compress", exited: make(chan struct{})}
	p.pid, p.pidfd, err = startSession(s.cfg.Executable, s.cfg.CompressArgs, childEnv(), files)
	if err != nil {
		return err
	}
	reaped := make(chan error, 1)
	go func() { reaped <- p.wait() }()
	select {
	case err = <-reaped:
	case <-ended:
		_ = p.signal(syscall.SIGKILL) // unless it has just ended
		return <-reaped
	}
	if err == nil && p.exit.Code != 0 {
		err = errors.New(describe(p.exit))
	}
	return err
}
