package image

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/image/layers"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/tartree"
)

// CommitOptions are the options of [Store.Commit].
type CommitOptions struct {
	// ContainerID names the writable layer, ImageID the image it is on.
	ContainerID, ImageID string
	// Config is that of the new image, before Changes.
	Config dockerspec.DockerOCIImageConfig
	// Changes are Dockerfile instructions, see [ApplyChanges].
	Changes []string
	// Author, Comment and CreatedBy are for the image's history.
	Author, Comment, CreatedBy string
	// Repo and Tag name the image; an empty Repo leaves it without a name, an
	// empty Tag means latest.
	Repo, Tag string
	// Targets are the places where the container has mounts, see
	// [Store.RootFSChanges].
	Targets []string
}

// Commit makes an image of a container's image and what the container has
// written. Who writes meanwhile may be caught in the middle: that nobody does
// is the caller's business. An error leaves nothing behind. The layer is
// unpacked when Commit returns, so the image can be run.
func (s *Store) Commit(ctx context.Context, o CommitOptions) (Image, error) {
	name, err := ImportOptions{Repo: o.Repo, Tag: o.Tag}.name()
	if err != nil {
		return Image{}, err
	}
	if err := ApplyChanges(&o.Config, o.Changes); err != nil {
		return Image{}, err
	}
	ctx, done, err := s.lease(s.in(ctx))
	if err != nil {
		return Image{}, err
	}
	defer done()
	base, err := s.baseOf(ctx, o)
	if err != nil {
		return Image{}, err
	}
	layer, err := s.commitLayer(ctx, o)
	if err != nil {
		return Image{}, fmt.Errorf("commit container %s: %w", o.ContainerID, err)
	}
	c, err := s.stack(ctx, base, layer, o)
	if err != nil {
		return Image{}, err
	}
	if name == "" {
		name = danglingName(c.target.Digest)
	}
	if _, err := s.nameContents(ctx, name, c); err != nil {
		return Image{}, err
	}
	if isDangling(name) {
		return c.asImage(""), nil
	}
	return c.asImage(familiar(name)), nil
}

// baseOf finds the image that the container is on. The lease of ctx keeps its
// blobs from now on, whatever becomes of its names.
func (s *Store) baseOf(ctx context.Context, o CommitOptions) (*contents, error) {
	record, err := s.find(ctx, o.ImageID)
	if err == nil {
		err = s.leaseContent(ctx, record.Target.Digest)
	}
	if err == nil {
		_, err = s.content.Info(ctx, record.Target.Digest) // it may have gone before the lease had it
	}
	if errdefs.IsNotFound(err) {
		return nil, failf(errdefs.ErrNotFound, "commit container %s: its image %s has been removed", o.ContainerID, shortID(o.ImageID))
	}
	if err != nil {
		return nil, err
	}
	return s.contents(ctx, record.Target)
}

// stack puts a layer on an image and makes the result ready to be named. An
// empty layer leaves its trace in the history alone, as Docker's does.
func (s *Store) stack(ctx context.Context, base *contents, layer ocispec.Descriptor, o CommitOptions) (*contents, error) {
	now := time.Now().UTC()
	img := base.image
	img.Created, img.Author, img.Config = &now, o.Author, o.Config
	img.History = append([]ocispec.History(nil), base.image.History...)
	img.History = append(img.History, ocispec.History{
		Created: &now, CreatedBy: o.CreatedBy, Author: o.Author, Comment: o.Comment, EmptyLayer: layer.Size == 0,
	})
	layers := append([]ocispec.Descriptor(nil), base.layers...)
	img.RootFS.DiffIDs = append([]digest.Digest(nil), base.image.RootFS.DiffIDs...)
	if layer.Size > 0 {
		if len(layers) >= mount.MaxLower {
			return nil, failf(errdefs.ErrInvalidArgument, "commit container %s: max depth exceeded: it would have %d layers, and Linux merges up to %d", o.ContainerID, len(layers)+1, mount.MaxLower)
		}
		layers = append(layers, layer)
		img.RootFS.DiffIDs = append(img.RootFS.DiffIDs, layer.Digest)
	}
	c, err := s.assemble(ctx, img, layers)
	if err != nil {
		return nil, err
	}
	if c.snapshot, err = s.unpack(ctx, c, nil); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if err := s.labelContents(ctx, c.target, c); err != nil {
		return nil, err
	}
	return c, s.flushLayers()
}

// commitLayer stores what a container has written as a blob. The descriptor is
// that of an empty one, with size 0, when that is nothing.
func (s *Store) commitLayer(ctx context.Context, o CommitOptions) (ocispec.Descriptor, error) {
	layers, err := s.RootFS(ctx, o.ContainerID)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	diff, err := compareLayers(ctx, layers, o.Targets)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	w, err := content.OpenWriter(ctx, s.content, content.WithRef("commit-"+rand.Text()))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write layer: %w", err)
	}
	defer w.Close()
	buf := bufio.NewWriterSize(w, 1<<20)
	archive := tar.NewWriter(buf)
	l := layerWriter{packer: tartree.NewPacker(archive, tartree.IDs{}), tar: archive, void: diff.void}
	if err := l.layer(ctx, layers); err != nil {
		return ocispec.Descriptor{}, err
	}
	if l.entries == 0 {
		return ocispec.Descriptor{}, nil
	}
	if err := errors.Join(archive.Close(), buf.Flush()); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write layer: %w", err)
	}
	return finish(ctx, w)
}

func finish(ctx context.Context, w content.Writer) (ocispec.Descriptor, error) {
	status, err := w.Status()
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write layer: %w", err)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: w.Digest(), Size: status.Offset}
	if err := failpoint.Hit("image.layer"); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write layer: %w", err)
	}
	if err := w.Commit(ctx, desc.Size, desc.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, fmt.Errorf("write layer: %w", err)
	}
	return desc, nil
}

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// layerWriter writes a writable layer of overlayfs in the form of an image's.
type layerWriter struct {
	packer  *tartree.Packer
	tar     *tar.Writer
	void    map[string]bool
	entries int
}

func (l *layerWriter) layer(ctx context.Context, layers Layers) error {
	upper, err := openDirectory(layers.Upper)
	if err != nil {
		return err
	}
	defer upper.Close()
	if changed, err := rootChanged(upper, layers); err != nil {
		return err
	} else if changed {
		l.entries++
		if err := l.packer.Alone(ctx, upper, ".", "./"); err != nil {
			return err
		}
	}
	return l.dir(ctx, upper, "")
}

// rootChanged tells whether the root directory itself is not as in the image.
func rootChanged(upper *os.File, layers Layers) (bool, error) {
	var u, b unix.Stat_t
	if err := unix.Fstat(int(upper.Fd()), &u); err != nil {
		return false, err
	}
	if err := unix.Stat(layers.Lower[0], &b); err != nil {
		return false, err
	}
	return u.Mode != b.Mode || u.Uid != b.Uid || u.Gid != b.Gid, nil
}

// dir writes what is in a directory; prefix is its name with a slash, or empty.
func (l *layerWriter) dir(ctx context.Context, dir *os.File, prefix string) error {
	notes, err := layers.ReadNotes(dir)
	if err != nil {
		return &os.PathError{Op: "read", Path: prefix, Err: err}
	}
	if notes.Opaque && prefix != "" {
		if err := l.whiteout(prefix + whiteoutOpaque); err != nil {
			return err
		}
	}
	names, err := tartree.Names(dir)
	if err != nil {
		return &os.PathError{Op: "read", Path: prefix, Err: err}
	}
	for _, base := range names {
		if l.void[path.Join("/", prefix, base)] {
			continue
		}
		if err := l.entry(ctx, dir, base, prefix); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

func (l *layerWriter) entry(ctx context.Context, dir *os.File, base, prefix string) error {
	n, err := openNode(dir, base)
	if err != nil {
		return &os.PathError{Op: "look at", Path: prefix + base, Err: err}
	}
	defer n.file.Close()
	if n.isWhiteout() {
		return l.whiteout(prefix + whiteoutPrefix + base)
	}
	l.entries++
	if err := l.packer.Alone(ctx, dir, base, prefix+base); err != nil || !n.isDir() {
		return err
	}
	return l.dir(ctx, n.file, prefix+base+"/")
}

func (l *layerWriter) whiteout(name string) error {
	l.entries++
	return l.tar.WriteHeader(&tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: name, Mode: 0o600})
}
