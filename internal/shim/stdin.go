package shim

import (
	"os"
	"sync"
)

// stdin is the writing end of the process's standard input. The zero value is
// one that leads nowhere.
type stdin struct {
	// mu guards what follows; it is not held while writing, so that close ends
	// a write that blocks.
	mu       sync.Mutex
	file     *os.File
	terminal bool // file is the terminal, and not ours to close
	once     bool
}

func (s *stdin) open(f *os.File, terminal, once bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, s.terminal, s.once = f, terminal, once
}

// write blocks while the process does not read. Whatever comes after the
// process has closed its end is dropped.
func (s *stdin) write(p []byte) {
	s.mu.Lock()
	f := s.file
	s.mu.Unlock()
	if f == nil {
		return
	}
	if _, err := f.Write(p); err != nil {
		s.close()
	}
}

// end is called when a client sends no more. A terminal has no end of input
// but the character for it, which travels as a byte.
func (s *stdin) end(closing bool) {
	s.mu.Lock()
	keep := s.terminal || !closing && !s.once
	s.mu.Unlock()
	if !keep {
		s.close()
	}
}

func (s *stdin) close() {
	s.mu.Lock()
	f, terminal := s.file, s.terminal
	s.file = nil
	s.mu.Unlock()
	if f != nil && !terminal {
		f.Close()
	}
}
