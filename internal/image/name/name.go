// Package name reads the names that images are given.
package name

import (
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/internal/problem"
)

// ParseTag parses the name that an image is to get. Without a tag it is
// latest; a digest is no name to give, nor is one of Docker Hub whose short form,
// which people are shown, is that of another registry: as docker.io/ghcr.io/app.
func ParseTag(ref string) (reference.NamedTagged, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, problem.Errorf(errdefs.ErrInvalidArgument, "%s", err)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, problem.Errorf(errdefs.ErrInvalidArgument, "refusing to create a tag with a digest reference")
	}
	if _, err := digest.Parse(ref); err == nil || reference.FamiliarName(named) == string(digest.Canonical) {
		return nil, problem.Errorf(errdefs.ErrInvalidArgument, "refusing to create an ambiguous tag using digest algorithm as name")
	}
	tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged)
	if !ok {
		return nil, problem.Errorf(errdefs.ErrInvalidArgument, "invalid reference format: %q has no tag", ref)
	}
	if shown, err := reference.ParseNormalizedNamed(reference.FamiliarString(tagged)); err != nil || shown.String() != tagged.String() {
		return nil, problem.Errorf(errdefs.ErrInvalidArgument, "invalid reference format: %q would be shown as %q, which is another image", ref, reference.FamiliarString(tagged))
	}
	return tagged, nil
}
