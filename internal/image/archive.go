package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// archive is an image archive whose files have been taken into the content
// store, under the lease of the context. Names are slash paths relative to
// the root of the archive.
type archive struct {
	files map[string]archiveFile
	links map[string]string // symbolic and hard links, resolved to names
}

type archiveFile struct {
	desc ocispec.Descriptor
	data []byte // of the few files that are read by name
}

// namedFiles are the documents by which an archive is read.
var namedFiles = map[string]bool{
	ocispec.ImageLayoutFile: true,
	ocispec.ImageIndexFile:  true,
	"manifest.json":         true,
	"repositories":          true,
}

// blobName matches a file that is named for its content.
var blobName = regexp.MustCompile(`^blobs/([a-z0-9]+)/([0-9a-f]{32,128})$`)

// legacyFile matches the files of version 1 images which nothing needs.
var legacyFile = regexp.MustCompile(`^[0-9a-f]{64}/(VERSION|json)$`)

// readArchive takes a tar stream into the content store. Blobs that are named
// for their digest are checked against it.
func (s *Store) readArchive(ctx context.Context, r io.Reader, b *budget, progress func(jsonstream.Message)) (*archive, error) {
	a := &archive{files: map[string]archiveFile{}, links: map[string]string{}}
	in := archiveReader{store: s, archive: a, budget: b, progress: progress}
	tr := tar.NewReader(b.reader(r))
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, readError(err)
		}
		if err := in.entry(ctx, hdr, tr); err != nil {
			return nil, fmt.Errorf("archive entry %q: %w", hdr.Name, err)
		}
	}
}

// readError gives the errors of truncated and foreign streams their class.
func readError(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return failf(errdefs.ErrInvalidArgument, "archive is truncated: %w", err)
	case errors.Is(err, tar.ErrHeader):
		return failf(errdefs.ErrInvalidArgument, "archive is no tar file: %w", err)
	default:
		return fmt.Errorf("read archive: %w", err)
	}
}

type archiveReader struct {
	store    *Store
	archive  *archive
	budget   *budget
	progress func(jsonstream.Message)
	writes   int
}

func (in *archiveReader) entry(ctx context.Context, hdr *tar.Header, r io.Reader) error {
	if err := in.budget.entry(hdr.Size); err != nil {
		return err
	}
	name, err := insideName(hdr.Name)
	if err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeReg:
		return in.file(ctx, name, hdr.Size, r)
	case tar.TypeSymlink:
		return in.link(name, path.Join(path.Dir(name), hdr.Linkname))
	case tar.TypeLink:
		return in.link(name, hdr.Linkname)
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return nil
	default:
		return failf(errdefs.ErrInvalidArgument, "an image archive holds files, directories and links only (type %q)", hdr.Typeflag)
	}
}

// insideName cleans a name and refuses one that leaves the archive.
func insideName(name string) (string, error) {
	clean := path.Clean(name)
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", failf(errdefs.ErrInvalidArgument, "%q points outside of the archive", name)
	}
	return clean, nil
}

func (in *archiveReader) link(name, target string) error {
	target, err := insideName(target)
	if err != nil {
		return err
	}
	in.archive.links[name] = target
	return nil
}

func (in *archiveReader) file(ctx context.Context, name string, size int64, r io.Reader) error {
	if _, ok := in.archive.files[name]; ok {
		return failf(errdefs.ErrInvalidArgument, "comes twice")
	}
	if legacyFile.MatchString(name) {
		return nil
	}
	if namedFiles[name] {
		if size > in.store.limits.JSON {
			return failf(errdefs.ErrInvalidArgument, "has %d bytes, more than %d", size, in.store.limits.JSON)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return readError(err)
		}
		in.archive.files[name] = archiveFile{data: data}
		return nil
	}
	desc := ocispec.Descriptor{Size: size}
	if m := blobName.FindStringSubmatch(name); m != nil {
		desc.Digest = digest.NewDigestFromEncoded(digest.Algorithm(m[1]), m[2])
		if err := desc.Digest.Validate(); err != nil {
			return failf(errdefs.ErrInvalidArgument, "%w", err)
		}
	}
	desc, err := in.ingest(ctx, desc, r)
	if err != nil {
		return err
	}
	in.archive.files[name] = archiveFile{desc: desc}
	return nil
}

// ingest writes one blob. A digest in desc must be the blob's.
func (in *archiveReader) ingest(ctx context.Context, desc ocispec.Descriptor, r io.Reader) (ocispec.Descriptor, error) {
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
		return desc, readError(err)
	}
	if n != desc.Size {
		return desc, readError(io.ErrUnexpectedEOF)
	}
	actual := w.Digest()
	if desc.Digest != "" && desc.Digest.Algorithm() == actual.Algorithm() && desc.Digest != actual {
		return desc, failf(errdefs.ErrInvalidArgument, "digest mismatch: the content is %s", actual)
	}
	if desc.Digest != "" && desc.Digest.Algorithm() != actual.Algorithm() {
		return desc, failf(errdefs.ErrInvalidArgument, "digest algorithm %q is not supported", desc.Digest.Algorithm())
	}
	if err := w.Commit(ctx, n, actual); err != nil && !errdefs.IsAlreadyExists(err) {
		return desc, fmt.Errorf("write blob %s: %w", actual, err)
	}
	desc.Digest = actual
	return desc, nil
}

// progressFrom is the size from which a blob is worth a progress bar.
const progressFrom = 512 << 10

func (in *archiveReader) watch(desc ocispec.Descriptor, r io.Reader) io.Reader {
	if in.progress == nil || desc.Size < progressFrom {
		return r
	}
	id := fmt.Sprintf("blob %d", in.writes)
	if desc.Digest != "" {
		id = shortID(desc.Digest.Encoded())
	}
	return &progressReader{r: r, total: desc.Size, report: in.progress, id: id, status: "Loading layer"}
}

// lookup finds a file by its name in the archive, through links.
func (a *archive) lookup(name string) (archiveFile, bool) {
	name = path.Clean(name)
	for range 8 {
		if f, ok := a.files[name]; ok {
			return f, true
		}
		target, ok := a.links[name]
		if !ok {
			return archiveFile{}, false
		}
		name = target
	}
	return archiveFile{}, false
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
