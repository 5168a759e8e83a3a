package image

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/document"
	"github.com/portholehq/porthole/internal/image/remote"
)

// Distribution tells what a registry has under a name, without fetching
// layers.
type Distribution struct {
	Descriptor ocispec.Descriptor
	Platforms  []ocispec.Platform
}

// Distribution asks the registry of ref.
func (s *Store) Distribution(ctx context.Context, ref reference.Named, creds remote.Credentials) (Distribution, error) {
	session, err := s.session(ctx, ref, creds)
	if err != nil {
		return Distribution{}, err
	}
	defer session.Close()
	ctx = s.in(ctx)
	resolver := session.Resolver()
	name, target, err := resolver.Resolve(ctx, ref.String())
	if err != nil {
		return Distribution{}, registryError("pull", ref, err)
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return Distribution{}, registryError("pull", ref, err)
	}
	d := Distribution{Descriptor: target}
	if d.Platforms, err = s.remotePlatforms(ctx, fetcher, target); err != nil {
		return Distribution{}, registryError("pull", ref, err)
	}
	return d, nil
}

func (s *Store) remotePlatforms(ctx context.Context, fetcher remotes.Fetcher, target ocispec.Descriptor) ([]ocispec.Platform, error) {
	data, err := s.readRemote(ctx, fetcher, target)
	if err != nil {
		return nil, err
	}
	kind, err := document.TypeOf(target.MediaType, data)
	if err != nil {
		return nil, err
	}
	if kind == document.Index {
		var index ocispec.Index
		if err := document.Unmarshal(data, &index); err != nil {
			return nil, err
		}
		list := []ocispec.Platform{}
		for _, m := range index.Manifests {
			if m.Platform != nil && !document.IsAttestation(m) {
				list = append(list, *m.Platform)
			}
		}
		return list, nil
	}
	var m ocispec.Manifest
	if err := document.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	if data, err = s.readRemote(ctx, fetcher, m.Config); err != nil {
		return nil, err
	}
	var config dockerspec.DockerOCIImage
	if err := document.Unmarshal(data, &config); err != nil {
		return nil, err
	}
	return []ocispec.Platform{platforms.Normalize(config.Platform)}, nil
}

// readRemote reads a small blob of a registry and checks its digest.
func (s *Store) readRemote(ctx context.Context, fetcher remotes.Fetcher, desc ocispec.Descriptor) ([]byte, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, failf(errdefs.ErrInvalidArgument, "digest %q: %w", desc.Digest, err)
	}
	if desc.Size > s.limits.JSON {
		return nil, failf(errdefs.ErrInvalidArgument, "document %s has %d bytes, more than %d", desc.Digest, desc.Size, s.limits.JSON)
	}
	desc.URLs = nil // see fetch
	rc, err := fetcher.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, desc.Size+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	if int64(len(data)) != desc.Size || desc.Digest.Algorithm().FromBytes(data) != desc.Digest {
		return nil, failf(errdefs.ErrInvalidArgument, "the content of %s is another one", desc.Digest)
	}
	return data, nil
}
