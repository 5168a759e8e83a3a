package shim

import (
	"fmt"
	"os"
	"time"
)

// compressDelay is how long the log must not have rotated before its old
// segments are compressed: a container that writes at full speed needs the
// processor, and will soon have dropped them anyway.
const compressDelay = time.Second

// compressLog has old segments compressed until ended is closed, and once more
// then. Each time it is a process of its own, short-lived and of low priority:
// the tables of a zstd encoder are larger than a whole shim.
func (s *Server) compressLog(rotated <-chan struct{}, ended <-chan struct{}) {
	timer := time.NewTimer(compressDelay)
	timer.Stop()
	due := false
	for {
		select {
		case <-rotated:
			due = true
			timer.Reset(compressDelay)
		case <-timer.C:
			due = false
			s.compressOnce(true)
		case <-ended:
			select {
			case <-rotated:
				due = true
			default:
			}
			if due {
				s.compressOnce(false)
			}
			return
		}
	}
}

// compressOnce runs the compressor, which looks for itself what is to be done.
func (s *Server) compressOnce(wait bool) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		s.note(fmt.Errorf("compress log: %w", err))
		return
	}
	defer null.Close()
	files := []*os.File{null, null, null, s.cfg.LogDir}
	pid, pidfd, err := startSession(s.cfg.Executable, s.cfg.CompressArgs, childEnv(), files)
	if err != nil {
		s.note(fmt.Errorf("compress log: %w", err))
		return
	}
	defer pidfd.Close()
	if !wait {
		return // it outlives the shim; whoever inherits it reaps it
	}
	exit, err := reap(pid, pidfd)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("compress log: %s", describe(exit))
	}
	if err != nil {
		s.note(err)
	}
}
