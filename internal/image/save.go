package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/archive"
	"github.com/portholehq/porthole/internal/image/document"
)

// Save writes an archive of images that is both an OCI layout and what
// `docker load` reads. A name without a tag stands for all tags of its
// repository; an image given by ID or digest is saved without a name. With
// platforms only these of an image are saved, and one that has none of them is
// an error; without, all that is here.
//
// Nothing is written before all refs have been found. The archive of the same
// images is the same, byte by byte.
func (s *Store) Save(ctx context.Context, w io.Writer, refs []string, platforms []ocispec.Platform) error {
	ctx, done, err := s.pin(s.in(ctx))
	if err != nil {
		return err
	}
	defer done()
	if len(refs) == 0 {
		return failf(errdefs.ErrInvalidArgument, "no image to save")
	}
	a := saving{store: s, platforms: platforms, seen: map[digest.Digest]bool{}}
	for _, ref := range refs {
		if err := a.add(ctx, ref); err != nil {
			return err
		}
	}
	return a.write(ctx, w)
}

type saving struct {
	store     *Store
	platforms []ocispec.Platform

	index  []ocispec.Descriptor  // entries of index.json
	docker []archive.DockerEntry // entries of manifest.json
	blobs  []ocispec.Descriptor
	seen   map[digest.Digest]bool
}

// add finds what ref means and puts it on the lists.
func (a *saving) add(ctx context.Context, ref string) error {
	records, err := a.store.findAll(ctx, ref)
	if err != nil {
		return err
	}
	id, _ := leases.FromContext(ctx)
	for _, r := range records {
		err := a.store.leases.AddResource(ctx, leases.Lease{ID: id}, leases.Resource{ID: r.Target.Digest.String(), Type: "content"})
		if err != nil {
			return fmt.Errorf("keep image %q: %w", ref, err)
		}
		if err := a.image(ctx, r); err != nil {
			return fmt.Errorf("image %q: %w", ref, err)
		}
	}
	return nil
}

// findAll finds the records that ref stands for when images are saved.
// Records found by ID or digest come without a name.
func (s *Store) findAll(ctx context.Context, ref string) ([]images.Image, error) {
	record, err := s.find(ctx, ref)
	parsed, parseErr := reference.ParseAnyReference(ref)
	named, isName := parsed.(reference.Named)
	if parseErr != nil || !isName {
		record.Name = ""
		return []images.Image{record}, err
	}
	_, byDigest := named.(reference.Canonical)
	if byDigest || err == nil && record.Name != reference.TagNameOnly(named).String() {
		record.Name = ""
		return []images.Image{record}, err
	}
	if !reference.IsNameOnly(named) {
		return []images.Image{record}, err
	}
	all, listErr := s.images.List(ctx)
	if listErr != nil {
		return nil, fmt.Errorf("list images: %w", listErr)
	}
	all = slices.DeleteFunc(all, func(i images.Image) bool {
		n, err := reference.ParseNormalizedNamed(i.Name)
		return isDangling(i.Name) || err != nil || n.Name() != named.Name()
	})
	if len(all) == 0 {
		return []images.Image{record}, err
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}

func (a *saving) image(ctx context.Context, r images.Image) error {
	manifests, err := a.store.manifests(ctx, r.Target)
	if err != nil {
		return err
	}
	targets := []ocispec.Descriptor{r.Target}
	if len(a.platforms) > 0 {
		targets = nil
		for _, p := range a.platforms {
			m, err := a.store.choose(manifests, []ocispec.Platform{p})
			if err != nil {
				return err
			}
			m.desc.Platform = &m.platform
			targets = append(targets, m.desc)
			manifests = []platformManifest{m}
		}
	}
	for _, t := range targets {
		a.entry(t, r.Name)
		if err := a.collect(ctx, t, 0); err != nil {
			return err
		}
	}
	// manifest.json can hold one platform: the one that would run here.
	m, err := a.store.choose(manifests, nil)
	if err != nil {
		m = manifests[0]
	}
	a.dockerEntry(m, r.Name)
	return nil
}

func (a *saving) entry(target ocispec.Descriptor, name string) {
	target.Annotations = nil
	if name != "" && !isDangling(name) {
		target.Annotations = map[string]string{images.AnnotationImageName: name}
		if named, err := reference.ParseNormalizedNamed(name); err == nil {
			if tagged, ok := named.(reference.Tagged); ok {
				target.Annotations[ocispec.AnnotationRefName] = tagged.Tag()
			}
		}
	}
	same := func(d ocispec.Descriptor) bool {
		return d.Digest == target.Digest && d.Annotations[images.AnnotationImageName] == target.Annotations[images.AnnotationImageName]
	}
	if !slices.ContainsFunc(a.index, same) {
		a.index = append(a.index, target)
	}
}

func (a *saving) dockerEntry(m platformManifest, name string) {
	config := blobPath(m.manifest.Config.Digest)
	i := slices.IndexFunc(a.docker, func(e archive.DockerEntry) bool { return e.Config == config })
	if i < 0 {
		e := archive.DockerEntry{Config: config, RepoTags: []string{}, Layers: []string{}}
		for _, l := range m.manifest.Layers {
			e.Layers = append(e.Layers, blobPath(l.Digest))
		}
		i, a.docker = len(a.docker), append(a.docker, e)
	}
	if n := familiar(name); name != "" && n != "" && !slices.Contains(a.docker[i].RepoTags, n) {
		a.docker[i].RepoTags = append(a.docker[i].RepoTags, n)
	}
}

func blobPath(d digest.Digest) string {
	return strings.Join([]string{"blobs", d.Algorithm().String(), d.Encoded()}, "/")
}

// collect lists the blobs of an index or manifest and below. Other platforms of an index may
// be missing, parts of an image may not.
func (a *saving) collect(ctx context.Context, desc ocispec.Descriptor, depth int) error {
	if a.seen[desc.Digest] {
		return nil
	}
	if depth > maxIndexDepth {
		return failf(errdefs.ErrInvalidArgument, "index %s is nested too deep", desc.Digest)
	}
	if err := a.blob(ctx, desc); err != nil {
		return err
	}
	kind, children, err := a.store.children(ctx, desc)
	if err != nil {
		return err
	}
	for _, c := range children {
		if kind == document.Manifest {
			if err := a.blob(ctx, c); err != nil {
				return err
			}
			continue
		}
		if err := a.collect(ctx, c, depth+1); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// blob lists one blob.
func (a *saving) blob(ctx context.Context, desc ocispec.Descriptor) error {
	if a.seen[desc.Digest] {
		return nil
	}
	info, err := a.store.content.Info(ctx, desc.Digest)
	if err != nil {
		return fmt.Errorf("blob %s: %w", desc.Digest, err)
	}
	a.seen[desc.Digest] = true
	a.blobs = append(a.blobs, ocispec.Descriptor{Digest: desc.Digest, Size: info.Size})
	return nil
}

func (a *saving) write(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	sort.Slice(a.blobs, func(i, j int) bool { return a.blobs[i].Digest < a.blobs[j].Digest })
	for _, b := range a.blobs {
		if err := a.writeBlob(ctx, tw, b); err != nil {
			return fmt.Errorf("write archive: blob %s: %w", b.Digest, err)
		}
	}
	documents := []struct {
		name string
		v    any
	}{
		{ocispec.ImageIndexFile, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageIndex,
			Manifests: a.index,
		}},
		{"manifest.json", a.docker},
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
	}
	for _, d := range documents {
		data, err := json.Marshal(d.v)
		if err != nil {
			return fmt.Errorf("write archive: %s: %w", d.name, err)
		}
		if err := writeFile(tw, d.name, data); err != nil {
			return fmt.Errorf("write archive: %s: %w", d.name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

func (a *saving) writeBlob(ctx context.Context, tw *tar.Writer, desc ocispec.Descriptor) error {
	blob, err := a.store.content.ReaderAt(ctx, desc)
	if err != nil {
		return err
	}
	defer blob.Close()
	if err := tw.WriteHeader(fileHeader(blobPath(desc.Digest), desc.Size)); err != nil {
		return err
	}
	_, err = io.Copy(tw, contextReader{ctx, content.NewReader(blob)})
	return err
}

func fileHeader(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}
}

func writeFile(tw *tar.Writer, name string, data []byte) error {
	if err := tw.WriteHeader(fileHeader(name, int64(len(data)))); err != nil {
		return err
	}
	_, err := tw.Write(data)
	return err
}

// contextReader ends with the context.
type contextReader struct {
	ctx context.Context // lives for one copy
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
