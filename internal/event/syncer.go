package event

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/portholehq/porthole/internal/failpoint"
)

// syncDelay bounds what a crash of the machine can take.
const syncDelay = time.Second

// syncer forces a growing file to the disk, so that nobody who publishes waits for it.
type syncer struct {
	kick chan struct{} // of capacity 1
	stop chan struct{}
	done chan struct{}

	mu    sync.Mutex
	files []*os.File // the last one is being written
	err   error
}

func startSyncer(f *os.File) *syncer {
	s := &syncer{kick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), files: []*os.File{f}}
	go s.run()
	return s
}

// wanted tells that something was written.
func (s *syncer) wanted() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// replace hands over the next file. The one before is closed when it is on the disk.
func (s *syncer) replace(f *os.File) {
	s.mu.Lock()
	s.files = append(s.files, f)
	s.mu.Unlock()
	s.wanted()
}

func (s *syncer) run() {
	defer close(s.done)
	for {
		select {
		case <-s.kick:
		case <-s.stop:
			return
		}
		delay := time.NewTimer(syncDelay)
		select {
		case <-delay.C:
		case <-s.stop:
			delay.Stop()
			return
		}
		s.flush()
	}
}

// flush syncs all files and closes those that have a successor.
func (s *syncer) flush() {
	s.mu.Lock()
	files := s.files
	s.files = files[len(files)-1:]
	s.mu.Unlock()
	for i, f := range files {
		err := failpoint.Hit("event.sync")
		if err == nil {
			err = f.Sync()
		}
		if i < len(files)-1 {
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
		}
	}
}

// close syncs and closes what is open, and returns the last error of all that was done in the background.
func (s *syncer) close() error {
	close(s.stop)
	<-s.done
	s.flush()
	return errors.Join(s.err, s.files[0].Close())
}
