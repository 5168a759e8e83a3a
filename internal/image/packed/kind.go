package packed

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
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/problem"
)

// Kind is how a stream is packed.
type Kind int

// The kinds of packing. Xz is known but cannot be unpacked.
const (
	None Kind = iota
	Gzip
	Zstd
	Bzip2
	Xz
)

// magics are the first bytes of packed streams: RFC 1952, RFC 8878 (a frame,
// and a skippable frame), bzip2 and xz.
var magics = []struct {
	prefix []byte
	kind   Kind
}{
	{[]byte{0x1f, 0x8b}, Gzip},
	{[]byte{0x28, 0xb5, 0x2f, 0xfd}, Zstd},
	{[]byte{0x50, 0x2a, 0x4d, 0x18}, Zstd},
	{[]byte("BZh"), Bzip2},
	{[]byte{0xfd, '7', 'z', 'X', 'Z', 0}, Xz},
}

// Detect looks at the first bytes of r without taking them.
func Detect(r *bufio.Reader) (Kind, error) {
	head, err := r.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	for _, m := range magics {
		if bytes.HasPrefix(head, m.prefix) {
			return m.kind, nil
		}
	}
	return None, nil
}

// decompress unpacks r, whatever it is packed with, in this process and with
// bounded memory. The caller closes the result, which leaves r open.
func decompress(r io.Reader) (io.ReadCloser, Kind, error) {
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
		return problem.Errorf(errdefs.ErrInvalidArgument, "packed data is damaged: %w", err)
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

func decompressor(r io.Reader) (io.ReadCloser, Kind, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	kind, err := Detect(buffered)
	if err != nil {
		return nil, 0, err
	}
	switch kind {
	case Gzip:
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, 0, fmt.Errorf("read gzip: %w", err)
		}
		return z, kind, nil
	case Zstd:
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, 0, fmt.Errorf("read zstd: %w", err)
		}
		return z.IOReadCloser(), kind, nil
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(buffered)), kind, nil
	case Xz:
		return nil, 0, problem.Errorf(errdefs.ErrInvalidArgument, "xz compression is not supported (unpack it with xz -d)")
	default:
		return io.NopCloser(buffered), kind, nil
	}
}

// LayerMediaType is the media type of a layer that is packed so.
func (k Kind) LayerMediaType() (string, error) {
	switch k {
	case None:
		return ocispec.MediaTypeImageLayer, nil
	case Gzip:
		return ocispec.MediaTypeImageLayerGzip, nil
	case Zstd:
		return ocispec.MediaTypeImageLayerZstd, nil
	case Bzip2, Xz:
	}
	return "", problem.Errorf(errdefs.ErrInvalidArgument, "layers are packed with gzip or zstd or not at all")
}
