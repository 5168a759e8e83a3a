package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compression is how a stream is packed.
type compression int

const (
	uncompressed compression = iota
	gzipped
	zstandard
	bzipped
	xzipped
)

// magics are the first bytes of packed streams: RFC 1952, RFC 8878 (a frame,
// and a skippable frame), bzip2 and xz.
var magics = []struct {
	prefix []byte
	kind   compression
}{
	{[]byte{0x1f, 0x8b}, gzipped},
	{[]byte{0x28, 0xb5, 0x2f, 0xfd}, zstandard},
	{[]byte{0x50, 0x2a, 0x4d, 0x18}, zstandard},
	{[]byte("BZh"), bzipped},
	{[]byte{0xfd, '7', 'z', 'X', 'Z', 0}, xzipped},
}

// detect looks at the first bytes of r without taking them.
func detect(r *bufio.Reader) (compression, error) {
	head, err := r.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	for _, m := range magics {
		if bytes.HasPrefix(head, m.prefix) {
			return m.kind, nil
		}
	}
	return uncompressed, nil
}

// decompress unpacks r, whatever it is packed with, in this process and with
// bounded memory. The caller closes the result, which leaves r open.
func decompress(r io.Reader) (io.ReadCloser, compression, error) {
	source := &sourceReader{r: r}
	stream, kind, err := decompressor(source)
	if err != nil {
		return nil, 0, source.explain(err)
	}
	return &packedReader{ReadCloser: stream, source: source}, kind, nil
}

// sourceReader remembers what went wrong below a decompressor, to tell that
// from packed data that is wrong itself.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (s *sourceReader) explain(err error) error {
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errdefs.IsInvalidArgument(err), s.err != nil:
		return err
	default:
		return failf(errdefs.ErrInvalidArgument, "packed data is damaged: %w", err)
	}
}

type packedReader struct {
	io.ReadCloser
	source *sourceReader
}

func (p *packedReader) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	return n, p.source.explain(err)
}

func decompressor(r io.Reader) (io.ReadCloser, compression, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	kind, err := detect(buffered)
	if err != nil {
		return nil, 0, err
	}
	switch kind {
	case gzipped:
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, 0, fmt.Errorf("read gzip: %w", err)
		}
		return z, kind, nil
	case zstandard:
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, 0, fmt.Errorf("read zstd: %w", err)
		}
		return z.IOReadCloser(), kind, nil
	case bzipped:
		return io.NopCloser(bzip2.NewReader(buffered)), kind, nil
	case xzipped:
		return nil, 0, failf(errdefs.ErrInvalidArgument, "xz compression is not supported (unpack it with xz -d)")
	default:
		return io.NopCloser(buffered), kind, nil
	}
}
