package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/packed"
	"github.com/portholehq/porthole/internal/problem"
)

// Store is where the files of an archive go.
type Store interface {
	// Ingest keeps a file of desc.Size bytes and returns its whole descriptor. A
	// digest in desc must be the file's.
	Ingest(ctx context.Context, desc ocispec.Descriptor, r io.Reader) (ocispec.Descriptor, error)
	// Document returns a small document; errdefs.ErrNotFound when it is not there.
	Document(ctx context.Context, desc ocispec.Descriptor) ([]byte, error)
}

// Archive is an image archive whose files have been taken into a store. Names
// are slash paths relative to the root of the archive.
type Archive struct {
	store Store
	files map[string]file
	links map[string]string // symbolic and hard links, resolved to names
}

type file struct {
	desc ocispec.Descriptor
	kind packed.Kind
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

// Read takes all files of a tar stream into store. Blobs that are named for
// their digest are checked against it; documents may have maxJSON bytes.
func Read(ctx context.Context, stream *packed.Stream, store Store, maxJSON int64) (*Archive, error) {
	a := &Archive{store: store, files: map[string]file{}, links: map[string]string{}}
	in := reader{archive: a, budget: stream.Budget, maxJSON: maxJSON}
	tr := tar.NewReader(stream)
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, packed.ReadError(err)
		}
		if err := in.entry(ctx, hdr, tr); err != nil {
			return nil, fmt.Errorf("archive entry %q: %w", hdr.Name, err)
		}
	}
}

type reader struct {
	archive *Archive
	budget  *packed.Budget
	maxJSON int64
}

func (in *reader) entry(ctx context.Context, hdr *tar.Header, r io.Reader) error {
	if err := in.budget.Entry(hdr.Size); err != nil {
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
		return problem.Errorf(errdefs.ErrInvalidArgument, "an image archive holds files, directories and links only (type %q)", hdr.Typeflag)
	}
}

// insideName cleans a name and refuses one that leaves the archive.
func insideName(name string) (string, error) {
	clean := path.Clean(name)
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", problem.Errorf(errdefs.ErrInvalidArgument, "%q points outside of the archive", name)
	}
	return clean, nil
}

func (in *reader) link(name, target string) error {
	target, err := insideName(target)
	if err != nil {
		return err
	}
	in.archive.links[name] = target
	return nil
}

func (in *reader) file(ctx context.Context, name string, size int64, r io.Reader) error {
	if _, ok := in.archive.files[name]; ok {
		return problem.Errorf(errdefs.ErrInvalidArgument, "comes twice")
	}
	if legacyFile.MatchString(name) {
		return nil
	}
	if namedFiles[name] {
		if size > in.maxJSON {
			return problem.Errorf(errdefs.ErrInvalidArgument, "has %d bytes, more than %d", size, in.maxJSON)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return packed.ReadError(err)
		}
		in.archive.files[name] = file{data: data}
		return nil
	}
	desc := ocispec.Descriptor{Size: size}
	if m := blobName.FindStringSubmatch(name); m != nil {
		desc.Digest = digest.NewDigestFromEncoded(digest.Algorithm(m[1]), m[2])
		if err := desc.Digest.Validate(); err != nil {
			return problem.Errorf(errdefs.ErrInvalidArgument, "%w", err)
		}
	}
	content := bufio.NewReader(r)
	kind, err := packed.Detect(content)
	if err != nil {
		return packed.ReadError(err)
	}
	desc, err = in.archive.store.Ingest(ctx, desc, content)
	if err != nil {
		return err
	}
	in.archive.files[name] = file{desc: desc, kind: kind}
	return nil
}

// lookup finds a file by its name in the archive, through links.
func (a *Archive) lookup(name string) (file, bool) {
	name = path.Clean(name)
	for range 8 {
		if f, ok := a.files[name]; ok {
			return f, true
		}
		target, ok := a.links[name]
		if !ok {
			return file{}, false
		}
		name = target
	}
	return file{}, false
}
