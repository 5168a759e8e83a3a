package pager

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// source is what is shown: lines of a file, of which no more is read than has
// been looked at. What comes by a pipe is kept in memory, as a file.
type source struct {
	name  string
	title string // as it is shown
	file  *os.File
	more  chan struct{} // of a pipe: there is more; nil: a file
	// starts are where lines begin; the last may have no byte yet.
	starts  []int64
	scanned int64
}

// lineMost is how much of a line is shown.
const lineMost = 1 << 20

// openSource opens a file; "-" is in.
func openSource(name string, in io.Reader) (*source, error) {
	s := &source{name: name, title: name, starts: []int64{0}}
	if name == "-" {
		s.title = "(standard input)"
		return s, s.pipe(in, nil)
	}
	f, err := os.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		f.Close()
		return nil, err
	case info.IsDir():
		f.Close()
		return nil, fmt.Errorf("%s is a directory", name)
	}
	if _, err := f.ReadAt(make([]byte, 1), 0); err != nil && !errors.Is(err, io.EOF) {
		return s, s.pipe(f, f) // what cannot be read at a place
	}
	s.file = f
	return s, nil
}

// pipe copies r to a file in memory, in the background.
func (s *source) pipe(r io.Reader, after io.Closer) error {
	fd, err := unix.MemfdCreate("less", unix.MFD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	s.file = os.NewFile(uintptr(fd), "less")
	s.more = make(chan struct{}, 1)
	go func() {
		if after != nil {
			defer after.Close()
		}
		defer close(s.more)
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Read(buf)
			if n > 0 {
				if _, err := s.file.Write(buf[:n]); err != nil {
					return // the memory is full
				}
				select {
				case s.more <- struct{}{}:
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return nil
}

// scan reads on; false: there is no more now.
func (s *source) scan() bool {
	buf := make([]byte, 64<<10)
	n, _ := s.file.ReadAt(buf, s.scanned) // what cannot be read is the end
	for at, rest := 0, buf[:n]; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		at += i + 1
		rest = rest[i+1:]
		s.starts = append(s.starts, s.scanned+int64(at))
	}
	s.scanned += int64(n)
	return n > 0
}

// known is how many lines have been found.
func (s *source) known() int {
	if s.scanned > s.starts[len(s.starts)-1] {
		return len(s.starts)
	}
	return len(s.starts) - 1
}

// has tells whether there is a line i, counted from 0.
func (s *source) has(i int) bool {
	// Not the last that is known: it may have no end yet.
	for i >= len(s.starts)-1 && s.scan() {
		continue
	}
	return i >= 0 && i < s.known()
}

// line is line i without its end, which there has to be.
func (s *source) line(i int) []byte {
	end := s.scanned
	if i+1 < len(s.starts) {
		end = s.starts[i+1] - 1
	}
	buf := make([]byte, min(end-s.starts[i], lineMost))
	n, _ := s.file.ReadAt(buf, s.starts[i]) // a file that has become shorter
	return bytes.TrimSuffix(buf[:n], []byte("\r"))
}

// count reads to the end, and returns how many lines there are.
func (s *source) count() int {
	for s.scan() {
		continue
	}
	return s.known()
}
