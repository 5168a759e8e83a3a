package image

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	layertar "github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/image/packed"
)

// labelSnapshot, on a configuration blob, names the snapshot of the topmost
// layer. containerd's garbage collection follows it, so an image keeps its
// layers. The builder labels its results in the same way.
const labelSnapshot = "containerd.io/gc.ref.snapshot." + snapshotterName

// snapshotKey names the snapshot of a chain of layers. The names are those
// that BuildKit gives to unpacked layers, so that a build does not unpack the
// layers of its base image again.
func snapshotKey(chain digest.Digest) string {
	return "buildkit-layer-snapshot-v1-" + chain.Algorithm().String() + "-" + chain.Encoded()
}

// snapshotKeyPrefix begins the keys of all chains, whose IDs are SHA-256.
const snapshotKeyPrefix = "buildkit-layer-snapshot-v1-sha256-"

// unpack makes the snapshots of an image's layers, as far as they are
// missing, and returns the key of the topmost; it is empty when there are no
// layers. The snapshots live by the lease of the context.
//
// A configuration keeps the snapshot that it has, as one that was built has one
// of the builder's: images of it that are here already know it by that name, and
// it would go from under them.
func (s *Store) unpack(ctx context.Context, c *contents, progress func(jsonstream.Message)) (string, error) {
	if c.snapshot != "" {
		// Before it is looked at: it could go between the two.
		if err := s.leaseSnapshot(ctx, c.snapshot); err != nil {
			return "", err
		}
		if _, err := s.snapshot.Stat(ctx, c.snapshot); err == nil {
			return c.snapshot, nil
		}
	}
	parent := ""
	for i, layer := range c.layers {
		key := snapshotKey(c.chain[i])
		if err := s.unpackLayer(ctx, layer, c.image.RootFS.DiffIDs[i], parent, key, progress); err != nil {
			return "", fmt.Errorf("layer %d (%s): %w", i+1, layer.Digest, err)
		}
		parent = key
	}
	return parent, nil
}

// unpackPrefix begins the keys of snapshots that are being unpacked.
const unpackPrefix = "unpack-"

func (s *Store) unpackLayer(ctx context.Context, layer ocispec.Descriptor, diffID digest.Digest, parent, key string, progress func(jsonstream.Message)) (err error) {
	// Before it is looked at: it could go between the two.
	if err := s.leaseSnapshot(ctx, key); err != nil {
		return err
	}
	if _, err := s.snapshot.Stat(ctx, key); err == nil {
		return nil
	}
	active := unpackPrefix + rand.Text()
	mounts, err := s.snapshot.Prepare(ctx, active, parent)
	if err != nil {
		return fmt.Errorf("prepare snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.snapshot.Remove(context.WithoutCancel(ctx), active))
		}
	}()
	size, err := s.applyLayer(ctx, mounts, layer, diffID, progress)
	if err != nil {
		return err
	}
	if err := failpoint.Hit("image.unpack"); err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	err = s.snapshot.Commit(ctx, key, active, snapshots.WithLabels(map[string]string{labelSize: strconv.FormatInt(size, 10)}))
	if errdefs.IsAlreadyExists(err) { // by another load of the same layer
		return s.snapshot.Remove(ctx, active)
	}
	if err != nil {
		return fmt.Errorf("commit snapshot: %w", err)
	}
	return nil
}

// applyLayer unpacks one layer into a prepared snapshot and checks that it was
// the layer that the configuration means. It returns the sum of file sizes.
func (s *Store) applyLayer(ctx context.Context, mounts []mount.Mount, layer ocispec.Descriptor, diffID digest.Digest, progress func(jsonstream.Message)) (int64, error) {
	root, parents, opts, err := layerTarget(mounts)
	if err != nil {
		return 0, err
	}
	blob, err := s.content.ReaderAt(ctx, layer)
	if err != nil {
		return 0, fmt.Errorf("open blob: %w", err)
	}
	defer blob.Close()
	source := content.NewReader(blob)
	if progress != nil && layer.Size >= progressFrom {
		source = &progressReader{r: source, total: layer.Size, report: progress, id: shortID(diffID.Encoded()), status: "Unpacking layer"}
	}
	stream, err := packed.Open(source, s.limits, root)
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	verifier := digest.Canonical.Digester()
	in := io.TeeReader(stream, verifier.Hash())

	filter := &layerFilter{budget: stream.Budget}
	opts = append(opts, layertar.WithFilter(filter.check))
	if err := inheritRoot(root, parents); err != nil {
		return 0, err
	}
	if _, err := layertar.Apply(ctx, root, in, opts...); err != nil {
		return 0, layerError(err)
	}
	// What follows the end of the tar belongs to the digest as well.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return 0, layerError(err)
	}
	if got := verifier.Digest(); got != diffID {
		return 0, failf(errdefs.ErrInvalidArgument, "layer content is %s, the image configuration wants %s", got, diffID)
	}
	return stream.Budget.Claimed(), filter.applyRoot(root)
}

func layerError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return failf(errdefs.ErrInvalidArgument, "layer is truncated: %w", err)
	}
	if errors.Is(err, tar.ErrHeader) {
		return failf(errdefs.ErrInvalidArgument, "layer is no tar file: %w", err)
	}
	return fmt.Errorf("unpack: %w", err)
}

// layerTarget tells where the files of a prepared snapshot are written, so
// that nothing has to be mounted: a lone layer is a bind mount, one with
// parents an overlay, whose whiteouts are written as overlayfs stores them.
func layerTarget(mounts []mount.Mount) (root string, parents []string, opts []layertar.ApplyOpt, err error) {
	if len(mounts) != 1 {
		return "", nil, nil, failf(errdefs.ErrInternal, "snapshot has %d mounts", len(mounts))
	}
	m := mounts[0]
	if m.Type == "bind" {
		return m.Source, nil, nil, nil
	}
	for _, o := range m.Options {
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
			root = dir
		}
		if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
			parents = strings.Split(dirs, ":")
		}
	}
	if m.Type != "overlay" || root == "" {
		return "", nil, nil, failf(errdefs.ErrInternal, "snapshot is mounted as %q without a writable layer", m.Type)
	}
	return root, parents, []layertar.ApplyOpt{
		layertar.WithConvertWhiteout(layertar.OverlayConvertWhiteout),
		layertar.WithParents(parents),
	}, nil
}

// inheritRoot gives a layer's root directory the mode and owner of the layer
// below: in an overlay the topmost layer's are those that are seen.
func inheritRoot(root string, parents []string) error {
	if len(parents) == 0 {
		return nil
	}
	return copyRootAttributes(parents[0], root)
}

func copyRootAttributes(from, to string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return fmt.Errorf("look at layer root %q: %w", from, err)
	}
	if err := unix.Chown(to, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("own layer root %q: %w", to, err)
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return fmt.Errorf("set mode of layer root %q: %w", to, err)
	}
	return nil
}

// layerFilter looks at each entry of a layer before containerd writes it.
// containerd resolves every path inside of the layer's root; what it does not
// do, and this does, is to refuse entries that try to leave it, to bound sizes
// and numbers, and to keep overlayfs's own attributes out.
type layerFilter struct {
	budget *packed.Budget
	root   *tar.Header // the entry for the root directory, which containerd skips
}

func (f *layerFilter) check(hdr *tar.Header) (bool, error) {
	if err := f.budget.Entry(hdr.Size); err != nil {
		return false, err
	}
	if leavesRoot(hdr.Name) {
		return false, failf(errdefs.ErrInvalidArgument, "entry %q points outside of the layer", hdr.Name)
	}
	if hdr.Typeflag == tar.TypeLink && leavesRoot(filepath.Clean(hdr.Linkname)) {
		return false, failf(errdefs.ErrInvalidArgument, "entry %q is a hard link to %q, outside of the layer", hdr.Name, hdr.Linkname)
	}
	for key := range hdr.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		// An image that could say where overlayfs finds a file's data could
		// read what is none of its own.
		if ok && (strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "user.overlay.")) {
			delete(hdr.PAXRecords, key)
		}
	}
	if hdr.Typeflag == tar.TypeDir && (hdr.Name == "." || hdr.Name == "/") {
		f.root = hdr
	}
	return true, nil
}

// leavesRoot tells whether a cleaned name climbs above where it starts.
// Absolute names start at the root of the layer.
func leavesRoot(name string) bool {
	return name == ".." || strings.HasPrefix(name, "../")
}

// applyRoot gives the layer's root directory what its entry said.
func (f *layerFilter) applyRoot(root string) error {
	if f.root == nil {
		return nil
	}
	if err := os.Lchown(root, f.root.Uid, f.root.Gid); err != nil {
		return fmt.Errorf("own layer root: %w", err)
	}
	if err := unix.Chmod(root, uint32(f.root.Mode)&0o7777); err != nil {
		return fmt.Errorf("set mode of layer root: %w", err)
	}
	if f.root.ModTime.Unix() <= 0 {
		return nil
	}
	mtime, err := unix.TimeToTimespec(f.root.ModTime)
	if err == nil {
		err = unix.UtimesNanoAt(unix.AT_FDCWD, root, []unix.Timespec{mtime, mtime}, 0)
	}
	if err != nil {
		return fmt.Errorf("set time of layer root: %w", err)
	}
	return nil
}

// layerMediaType looks how a layer is packed.
func (s *Store) layerMediaType(ctx context.Context, desc ocispec.Descriptor) (string, error) {
	blob, err := s.content.ReaderAt(ctx, desc)
	if err != nil {
		return "", fmt.Errorf("open blob: %w", err)
	}
	defer blob.Close()
	kind, err := packed.Detect(bufio.NewReader(content.NewReader(blob)))
	if err != nil {
		return "", fmt.Errorf("read blob: %w", err)
	}
	return kind.LayerMediaType()
}

// flushLayers writes what was unpacked to the disk: the database may not name
// layers that a power cut would leave half written.
func (s *Store) flushLayers() error {
	dir, err := os.Open(s.layersDir())
	if err != nil {
		return fmt.Errorf("flush layers: %w", err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil && !errors.Is(err, syscall.ENOSYS) {
		return fmt.Errorf("flush layers: %w", err)
	}
	return nil
}

// labelSize, on a snapshot, is the sum of the file sizes of its layer, which is
// what Docker calls the layer's size. The builder's snapshots have no label
// and are measured by what they occupy.
const labelSize = "porthole.size"

// layerSize is the size of a snapshot without its parents.
func (s *Store) layerSize(ctx context.Context, info snapshots.Info) (int64, error) {
	if n, err := strconv.ParseInt(info.Labels[labelSize], 10, 64); err == nil {
		return n, nil
	}
	u, err := s.snapshot.Usage(ctx, info.Name)
	if err != nil {
		return 0, fmt.Errorf("size of layer %q: %w", info.Name, err)
	}
	return u.Size, nil
}

// chainSize is the size of a snapshot and all its parents.
func (s *Store) chainSize(ctx context.Context, key string) (int64, error) {
	return s.measure().chain(ctx, key)
}

// layerSizes are the sizes of a snapshot and its parents, lowest first.
func (s *Store) layerSizes(ctx context.Context, key string) ([]int64, error) {
	return s.measure().layers(ctx, key)
}

// A sizer measures layers, each of them once: the states of a build have all the
// layers of the states before them. It is for one goroutine, and for as long as one
// answer takes.
type sizer struct {
	store *Store
	known map[string]sizedLayer // by the snapshot's key
}

type sizedLayer struct {
	size   int64
	parent string
}

func (s *Store) measure() sizer { return sizer{s, map[string]sizedLayer{}} }

// chain is the size of a snapshot and all its parents.
func (z sizer) chain(ctx context.Context, key string) (int64, error) {
	sizes, err := z.layers(ctx, key)
	var sum int64
	for _, n := range sizes {
		sum += n
	}
	return sum, err
}

// layers are the sizes of a snapshot and its parents, lowest first.
func (z sizer) layers(ctx context.Context, key string) ([]int64, error) {
	var sizes []int64
	for key != "" {
		l, ok := z.known[key]
		if !ok {
			info, err := z.store.snapshot.Stat(ctx, key)
			if err != nil {
				return nil, fmt.Errorf("look up layer %q: %w", key, err)
			}
			n, err := z.store.layerSize(ctx, info)
			if err != nil {
				return nil, err
			}
			l = sizedLayer{n, info.Parent}
			z.known[key] = l
		}
		sizes = append(sizes, l.size)
		key = l.parent
	}
	slices.Reverse(sizes)
	return sizes, nil
}
