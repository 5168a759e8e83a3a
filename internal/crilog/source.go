package crilog

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// source is one segment opened for reading. It stays readable when the segment
// is dropped or compressed meanwhile.
type source struct {
	n      int
	index  index
	idx    string // name of the index of a plain segment, which may grow; empty: there is none
	reader io.ReaderAt
	packed bool                  // an error of reader is damage
	live   bool                  // it stands for batches, see liveSource
	size   func() (int64, error) // grows while the segment is the active one
	free   func()
	others int // users beside the first
}

// share lets somebody else use s; each of them closes it.
func (s *source) share() *source {
	s.others++
	return s
}

func (s *source) close() {
	if s.others--; s.others < 0 {
		s.free()
	}
}

// openSource opens segment n, compressed or not. The error is fs.ErrNotExist
// when it has been dropped.
func (r *reader) openSource(n int) (*source, error) {
	if r.newest != nil && n == r.newest.n {
		return r.newest.share(), nil
	}
	// The index is made before its segment and removed after it. Opened first,
	// it is there also for a segment that is dropped this moment.
	idx, err := openAt(r.dir, indexName(n), os.O_RDONLY)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if idx != nil {
		defer idx.Close()
	}
	s, err := openPlain(r.dir, n)
	if errors.Is(err, os.ErrNotExist) {
		// Compressed meanwhile; or dropped, for a segment never turns plain again.
		s, err = openCompressed(r.dir, n, r.opts.Unpack)
	}
	if err != nil {
		return nil, err
	}
	return s.withIndex(idx)
}

func openPlain(dir *os.File, n int) (*source, error) {
	f, err := openAt(dir, logName(n), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	s := &source{n: n, reader: f, free: func() { f.Close() }}
	s.size = func() (int64, error) {
		st, err := f.Stat()
		if err != nil {
			return 0, err
		}
		return st.Size(), nil
	}
	return s, nil
}

// Unpacked is the text of a compressed segment. The error of ReadAt is io.EOF at
// the end only; any other one means that the segment is damaged there.
type Unpacked interface {
	io.ReaderAt
	Size() int64
	Close()
}

// errDamaged is the error for a compressed segment that cannot be unpacked.
var errDamaged = errors.New("damaged segment")

func openCompressed(dir *os.File, n int, unpack func(io.ReaderAt, int64) (Unpacked, error)) (*source, error) {
	f, err := openAt(dir, compressedName(n), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	if unpack == nil {
		f.Close()
		return nil, fmt.Errorf("log segment %q: no Unpack was given", f.Name())
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	z, err := unpack(f, st.Size())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("log segment %q: %w: %w", f.Name(), errDamaged, err)
	}
	return &source{
		n: n, reader: z, packed: true,
		size: func() (int64, error) { return z.Size(), nil },
		free: func() { z.Close(); f.Close() },
	}, nil
}

// learnMarks reads what the index has more by now, of the first size bytes of the segment. It does not hold the file: there
// may be many who follow.
func (s *source) learnMarks(dir *os.File, size int64) error {
	if s.idx == "" || !s.index.known {
		return nil
	}
	var st unix.Stat_t
	if unix.Fstatat(int(dir.Fd()), s.idx, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Size < s.index.read+indexRecord {
		return nil
	}
	f, err := openAt(dir, s.idx, os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return nil // dropped this moment
	}
	if err == nil {
		defer f.Close()
		err = s.index.grow(f, size)
	}
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	return nil
}

// withIndex reads the index, nil: there is none. On an error s is closed.
func (s *source) withIndex(idx *os.File) (*source, error) {
	if idx != nil && !s.packed {
		s.idx = indexName(s.n)
	}
	size, err := s.size()
	if err == nil {
		s.index, err = readIndex(idx, size)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}
