package sample

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"time"
)

// Reader reads a ring, also while it is written. It holds no state but the open
// file, and its methods may be called from any goroutine.
type Reader struct {
	file     *os.File
	capacity int
}

// Open opens the ring at path. It returns ErrFormat for another kind of file, and
// fs.ErrNotExist for none.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open samples: %w", err)
	}
	r, err := newReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open samples %q: %w", path, err)
	}
	return r, nil
}

func newReader(f *os.File) (*Reader, error) {
	var b [recordSize]byte
	if _, err := f.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	capacity, err := decodeHeader(b[:])
	if err != nil {
		return nil, err
	}
	return &Reader{file: f, capacity: capacity}, nil
}

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }

// Capacity is how many samples the ring can keep.
func (r *Reader) Capacity() int { return r.capacity }

// Range returns the samples of a time, ends included, in the order in which they
// were taken. The zero time means from the first, or to the last.
func (r *Reader) Range(from, to time.Time) ([]Sample, error) {
	low, high := int64(math.MinInt64), int64(math.MaxInt64)
	if !from.IsZero() {
		low = from.UnixNano()
	}
	if !to.IsZero() {
		high = to.UnixNano()
	}
	type numbered struct {
		seq uint64
		Sample
	}
	var (
		newest uint64
		found  []numbered
	)
	err := r.scan(func(seq uint64, s *Sample) {
		newest = max(newest, seq)
		if t := s.Time.UnixNano(); t >= low && t <= high {
			found = append(found, numbered{seq, *s})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read samples: %w", err)
	}
	slices.SortFunc(found, func(a, b numbered) int { return cmp.Compare(a.seq, b.seq) })
	list := make([]Sample, 0, len(found))
	for _, n := range found {
		// What is older survived only because its successor was lost in a crash.
		if newest-n.seq < uint64(r.capacity) {
			list = append(list, n.Sample)
		}
	}
	return list, nil
}

// Latest returns the last sample, or ErrNoSample.
func (r *Reader) Latest() (Sample, error) {
	seq, s, err := r.newest()
	if err != nil {
		return Sample{}, fmt.Errorf("read samples: %w", err)
	}
	if seq == 0 {
		return Sample{}, ErrNoSample
	}
	return s, nil
}

// Last returns the last n samples, oldest first.
func (r *Reader) Last(n int) ([]Sample, error) {
	list, err := r.Range(time.Time{}, time.Time{})
	return list[max(0, len(list)-n):], err
}

// newest finds the record with the highest number; 0 means none.
func (r *Reader) newest() (highest uint64, last Sample, err error) {
	err = r.scan(func(seq uint64, s *Sample) {
		if seq > highest {
			highest, last = seq, *s
		}
	})
	return highest, last, err
}

// scan calls fn for all valid records, in the order of the file. A ring of the
// default size takes a millisecond.
func (r *Reader) scan(fn func(seq uint64, s *Sample)) error {
	const block = 200 * recordSize
	var (
		buf = make([]byte, block)
		s   Sample
		end = recordSize * (1 + int64(r.capacity))
	)
	for at := int64(recordSize); at < end; at += block {
		n, err := r.file.ReadAt(buf[:min(block, end-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := 0; i+recordSize <= n; i += recordSize {
			seq, ok := decode(buf[i:i+recordSize], &s)
			if ok && slot(seq, r.capacity) == at+int64(i) {
				fn(seq, &s)
			}
		}
		if n < block {
			return nil
		}
	}
	return nil
}
