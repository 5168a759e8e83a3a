package archive

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/document"
	"github.com/portholehq/porthole/internal/problem"
)

// ociImages finds the images of an OCI layout: the entries of index.json, or
// the named entries of a nameless index in it.
func (a *Archive) ociImages(ctx context.Context, docker []DockerEntry) ([]Image, error) {
	if err := a.checkLayout(); err != nil {
		return nil, err
	}
	var index ocispec.Index
	if err := document.Unmarshal(a.files[ocispec.ImageIndexFile].data, &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	names, err := a.dockerNames(docker)
	if err != nil {
		return nil, err
	}
	var found []Image
	for _, desc := range index.Manifests {
		if document.IsAttestation(desc) {
			continue
		}
		l, err := a.ociEntry(ctx, desc, names)
		if err != nil {
			return nil, err
		}
		for _, e := range l {
			if !slices.ContainsFunc(found, func(f Image) bool { return f.Name == e.Name && f.Target.Digest == e.Target.Digest }) {
				found = append(found, e)
			}
		}
	}
	return found, nil
}

func (a *Archive) ociEntry(ctx context.Context, desc ocispec.Descriptor, names map[digest.Digest][]string) ([]Image, error) {
	data, err := a.document(ctx, desc)
	if err != nil {
		return nil, err
	}
	kind, err := document.TypeOf(desc.MediaType, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", desc.Digest, err)
	}
	desc.MediaType = document.MediaType(desc.MediaType, kind)
	name, err := annotatedName(desc.Annotations)
	if err != nil {
		return nil, err
	}
	if name != "" {
		return []Image{{Name: name, Target: desc}}, nil
	}
	if kind == document.Index {
		nested, err := a.namedIn(ctx, data)
		if err != nil || len(nested) > 0 {
			return nested, err
		}
		return []Image{{Target: desc}}, nil
	}
	var m ocispec.Manifest
	if err := document.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	var found []Image
	for _, n := range names[m.Config.Digest] {
		found = append(found, Image{Name: n, Target: desc})
	}
	if len(found) == 0 {
		found = []Image{{Target: desc}}
	}
	return found, nil
}

// namedIn finds the entries of a nested index that have names of their own.
func (a *Archive) namedIn(ctx context.Context, data []byte) ([]Image, error) {
	var index ocispec.Index
	if err := document.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	var found []Image
	for _, desc := range index.Manifests {
		name, err := annotatedName(desc.Annotations)
		if err != nil {
			return nil, err
		}
		if name == "" || document.IsAttestation(desc) {
			continue
		}
		data, err := a.document(ctx, desc)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		kind, err := document.TypeOf(desc.MediaType, data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", desc.Digest, err)
		}
		desc.MediaType = document.MediaType(desc.MediaType, kind)
		found = append(found, Image{Name: name, Target: desc})
	}
	return found, nil
}

// archiveDocument reads a manifest or index that an archive refers to.
func (a *Archive) document(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, problem.Errorf(errdefs.ErrInvalidArgument, "index.json: digest %q: %w", desc.Digest, err)
	}
	data, err := a.store.Document(ctx, desc)
	if errdefs.IsNotFound(err) {
		return nil, problem.Errorf(errdefs.ErrNotFound, "manifest %s is missing from the archive", desc.Digest)
	}
	return data, err
}

// annotatedName returns the canonical name that an entry of index.json gives
// to its image: containerd's whole name, or OCI's reference name. The latter
// is by the specification any string; archives of one image often have just
// "latest" there, which is no name.
func annotatedName(annotations map[string]string) (string, error) {
	name := annotations[images.AnnotationImageName]
	if name == "" {
		name = annotations[ocispec.AnnotationRefName]
		if name == "latest" {
			name = ""
		}
	}
	if name == "" {
		return "", nil
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", problem.Errorf(errdefs.ErrInvalidArgument, "image name %q in index.json: %w", name, err)
	}
	// A digest in the name says nothing that the target does not say.
	if tagged, ok := named.(reference.Tagged); ok {
		if named, err = reference.WithTag(reference.TrimNamed(named), tagged.Tag()); err != nil {
			return "", problem.Errorf(errdefs.ErrInvalidArgument, "image name %q in index.json: %w", name, err)
		}
		return named.String(), nil
	}
	return reference.TagNameOnly(reference.TrimNamed(named)).String(), nil
}

func (a *Archive) checkLayout() error {
	data := a.files[ocispec.ImageLayoutFile].data
	if data == nil {
		return nil // docker load takes those too
	}
	var layout ocispec.ImageLayout
	if err := document.Unmarshal(data, &layout); err != nil {
		return fmt.Errorf("oci-layout: %w", err)
	}
	if layout.Version != ocispec.ImageLayoutVersion {
		return problem.Errorf(errdefs.ErrInvalidArgument, "OCI layout version %q is not supported", layout.Version)
	}
	return nil
}
