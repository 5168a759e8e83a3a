package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"regexp"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/document"
	"github.com/portholehq/porthole/internal/image/name"
	"github.com/portholehq/porthole/internal/problem"
)

// DockerEntry is an image in Docker's manifest.json.
type DockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (a *Archive) dockerManifest() ([]DockerEntry, error) {
	data := a.files["manifest.json"].data
	if data == nil {
		return nil, nil
	}
	entries := []DockerEntry{}
	if err := document.Unmarshal(data, &entries); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	return entries, nil
}

func (e DockerEntry) names() ([]string, error) {
	var names []string
	for _, tag := range e.RepoTags {
		named, err := name.ParseTag(tag)
		if err != nil {
			return nil, fmt.Errorf("image name %q in manifest.json: %w", tag, err)
		}
		names = append(names, named.String())
	}
	return names, nil
}

// dockerNames tells which names manifest.json has for a configuration.
func (a *Archive) dockerNames(entries []DockerEntry) (map[digest.Digest][]string, error) {
	names := map[digest.Digest][]string{}
	for _, e := range entries {
		config, ok := a.lookup(e.Config)
		if !ok {
			continue
		}
		n, err := e.names()
		if err != nil {
			return nil, err
		}
		names[config.desc.Digest] = append(names[config.desc.Digest], n...)
	}
	return names, nil
}

// dockerImages makes manifests for the images of manifest.json.
func (a *Archive) dockerImages(ctx context.Context, entries []DockerEntry) ([]Image, error) {
	var found []Image
	for i, e := range entries {
		target, err := a.dockerImage(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("image %d of manifest.json: %w", i+1, err)
		}
		names, err := e.names()
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			found = append(found, Image{Name: n, Target: target})
		}
		if len(names) == 0 {
			found = append(found, Image{Target: target})
		}
	}
	return found, nil
}

// configName matches configurations that are named for their digest.
var configName = regexp.MustCompile(`^([0-9a-f]{64})\.json$`)

func (a *Archive) dockerImage(ctx context.Context, e DockerEntry) (ocispec.Descriptor, error) {
	config, ok := a.lookup(e.Config)
	if !ok || config.desc.Digest == "" {
		return ocispec.Descriptor{}, problem.Errorf(errdefs.ErrNotFound, "configuration %q is missing from the archive", e.Config)
	}
	if m := configName.FindStringSubmatch(path.Base(e.Config)); m != nil && m[1] != config.desc.Digest.Encoded() {
		return ocispec.Descriptor{}, problem.Errorf(errdefs.ErrInvalidArgument, "configuration %q: digest mismatch: the content is %s", e.Config, config.desc.Digest)
	}
	config.desc.MediaType = ocispec.MediaTypeImageConfig
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config.desc,
		Layers:    []ocispec.Descriptor{},
	}
	for _, name := range e.Layers {
		layer, ok := a.lookup(name)
		if !ok || layer.desc.Digest == "" {
			return ocispec.Descriptor{}, problem.Errorf(errdefs.ErrNotFound, "layer %q is missing from the archive", name)
		}
		mediaType, err := layer.kind.LayerMediaType()
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("layer %q: %w", name, err)
		}
		layer.desc.MediaType = mediaType
		m.Layers = append(m.Layers, layer.desc)
	}
	return a.writeManifest(ctx, m)
}

func (a *Archive) writeManifest(ctx context.Context, m ocispec.Manifest) (ocispec.Descriptor, error) {
	data, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("make manifest: %w", err)
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return a.store.Ingest(ctx, desc, bytes.NewReader(data))
}
