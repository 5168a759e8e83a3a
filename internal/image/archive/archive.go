// Package archive reads image archives: what `docker save` writes, old and new,
// and OCI layouts.
//
// An archive is read once, from a stream, by [Read], which takes its files into
// a [Store]; then [Archive.Images] says which images there are in it. Nothing of
// an archive is believed: names and links are never used as paths, content is
// checked against the digests that it is called by, and everything is bounded.
package archive

import (
	"context"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/problem"
)

// Image is one image in an archive, as its index names it.
type Image struct {
	Name   string // canonical, with tag; empty when it has none
	Target ocispec.Descriptor
}

// Images finds the images of the archive. An OCI layout goes before Docker's
// manifest.json, which then only helps with names.
func (a *Archive) Images(ctx context.Context) ([]Image, error) {
	docker, err := a.dockerManifest()
	if err != nil {
		return nil, err
	}
	var found []Image
	_, hasIndex := a.files[ocispec.ImageIndexFile]
	switch {
	case hasIndex:
		found, err = a.ociImages(ctx, docker)
	case docker != nil:
		found, err = a.dockerImages(ctx, docker)
	case a.files["repositories"].data != nil:
		err = problem.Errorf(errdefs.ErrInvalidArgument, "archive was made before Docker 1.10 (it has no manifest.json)")
	default:
		err = problem.Errorf(errdefs.ErrInvalidArgument, "unrecognized image format: archive has neither index.json nor manifest.json")
	}
	if err == nil && len(found) == 0 {
		err = problem.Errorf(errdefs.ErrInvalidArgument, "archive holds no image")
	}
	return found, err
}
