// Package packed unpacks streams that come from strangers, within bounds.
//
// [Open] finds out how a stream is packed and unpacks it in this process. What
// comes out is counted by a [Budget], which ends the stream with an error when
// it becomes more than [Limits] allow, or than the disk has room for.
package packed

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/internal/problem"
)

// Stream is what comes out of a packed stream.
type Stream struct {
	Kind   Kind
	Budget *Budget

	unpacked io.ReadCloser
}

// Open unpacks r, whatever it is packed with, for somebody who writes to the
// file system of dir. The caller closes the stream, which leaves r open.
func Open(r io.Reader, limits Limits, dir string) (*Stream, error) {
	source := &countingReader{r: r}
	unpacked, kind, err := decompress(source)
	if err != nil {
		return nil, err
	}
	b := &Budget{limits: limits, dir: dir}
	if kind != None {
		b.packed = source.count
	}
	return &Stream{Kind: kind, Budget: b, unpacked: unpacked}, nil
}

func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.unpacked.Read(p)
	if e := s.Budget.add(int64(n)); e != nil {
		return n, e
	}
	return n, err
}

// Close gives back what unpacking needs.
func (s *Stream) Close() error { return s.unpacked.Close() }

// ReadError gives the errors of truncated and foreign streams their class.
func ReadError(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return problem.Errorf(errdefs.ErrInvalidArgument, "archive is truncated: %w", err)
	case errors.Is(err, tar.ErrHeader):
		return problem.Errorf(errdefs.ErrInvalidArgument, "archive is no tar file: %w", err)
	default:
		return fmt.Errorf("read archive: %w", err)
	}
}

// countingReader remembers how much was read.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *countingReader) count() int64 { return c.n }
