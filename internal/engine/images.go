package engine

import ocispec "github.com/opencontainers/image-spec/specs-go/v1"

// ImageLoadOptions belong to [Engine.ImageLoad].
type ImageLoadOptions struct {
	Platforms []ocispec.Platform // empty: all that the archive holds
	Quiet     bool
}

// ImageImportOptions belong to [Engine.ImageImport].
type ImageImportOptions struct {
	Repo, Tag string
	Message   string
	Changes   []string // Dockerfile instructions
	Platform  *ocispec.Platform
}

// ImageListOptions belong to [Engine.ImageList].
type ImageListOptions struct {
	All        bool
	SharedSize bool
	Manifests  bool
	Filters    Filters
}

// ImageRemoveOptions belong to [Engine.ImageRemove].
type ImageRemoveOptions struct {
	Force, NoPrune bool
	Platforms      []ocispec.Platform
}
