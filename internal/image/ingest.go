package image

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/image/packed"
)

// ingester takes the files of an archive into the content store, under the
// lease of the context.
type ingester struct {
	store    *Store
	progress func(jsonstream.Message) // nil: nobody wants to know
	writes   int
}

// Document reads a manifest or index.
func (in *ingester) Document(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	return in.store.readJSON(ctx, desc)
}

// Ingest writes one blob. A digest in desc must be the blob's.
func (in *ingester) Ingest(ctx context.Context, desc ocispec.Descriptor, r io.Reader) (ocispec.Descriptor, error) {
	in.writes++
	ref := fmt.Sprintf("load-%p-%d", in, in.writes)
	// Without the size, which for an empty blob means "unknown" and makes
	// the store wait for nothing.
	w, err := content.OpenWriter(ctx, in.store.content, content.WithRef(ref), content.WithDescriptor(desc))
	if errdefs.IsAlreadyExists(err) {
		return desc, nil
	}
	if err != nil {
		return desc, fmt.Errorf("write blob: %w", err)
	}
	defer w.Close()
	if st, err := w.Status(); err == nil && st.Offset > 0 {
		if err := w.Truncate(0); err != nil {
			return desc, fmt.Errorf("write blob: %w", err)
		}
	}
	n, err := io.Copy(w, in.watch(desc, r))
	if err != nil {
		return desc, packed.ReadError(err)
	}
	if n != desc.Size {
		return desc, packed.ReadError(io.ErrUnexpectedEOF)
	}
	actual := w.Digest()
	if desc.Digest != "" && desc.Digest.Algorithm() == actual.Algorithm() && desc.Digest != actual {
		return desc, failf(errdefs.ErrInvalidArgument, "digest mismatch: the content is %s", actual)
	}
	if desc.Digest != "" && desc.Digest.Algorithm() != actual.Algorithm() {
		return desc, failf(errdefs.ErrInvalidArgument, "digest algorithm %q is not supported", desc.Digest.Algorithm())
	}
	if err := failpoint.Hit("image.blob"); err != nil {
		return desc, fmt.Errorf("write blob %s: %w", actual, err)
	}
	if err := w.Commit(ctx, n, actual); err != nil && !errdefs.IsAlreadyExists(err) {
		return desc, fmt.Errorf("write blob %s: %w", actual, err)
	}
	desc.Digest = actual
	return desc, nil
}

// progressFrom is the size from which a blob is worth a progress bar.
const progressFrom = 512 << 10

func (in *ingester) watch(desc ocispec.Descriptor, r io.Reader) io.Reader {
	if in.progress == nil || desc.Size < progressFrom {
		return r
	}
	id := fmt.Sprintf("blob %d", in.writes)
	if desc.Digest != "" {
		id = shortID(desc.Digest.Encoded())
	}
	return &progressReader{r: r, total: desc.Size, report: in.progress, id: id, status: "Loading layer"}
}

// Watch reports how far reading has come, some 100 times at most, in messages with
// this status. total, in bytes, is -1 if nobody knows it.
func Watch(r io.Reader, total int64, status string, report func(jsonstream.Message)) io.Reader {
	return &progressReader{r: r, total: max(total, 0), report: report, status: status}
}

// progressReader reports how far reading has come, some 100 times at most.
type progressReader struct {
	r        io.Reader
	n, total int64
	told     int64
	report   func(jsonstream.Message)
	id       string
	status   string
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	if p.n-p.told >= max(p.total/100, 64<<10) || (err != nil && p.told < p.n) || p.n == p.total && p.told < p.n {
		p.told = p.n
		p.report(jsonstream.Message{
			Status:   p.status,
			Progress: &jsonstream.Progress{Current: p.n, Total: p.total},
			ID:       p.id,
		})
	}
	return n, err
}
