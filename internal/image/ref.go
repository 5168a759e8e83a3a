package image

import (
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/internal/problem"
)

// danglingPrefix begins the record names of images that have no name. It
// cannot begin a reference.
const danglingPrefix = "<none>@"

// danglingName is the record name of the nameless image with the given
// target.
func danglingName(target digest.Digest) string { return danglingPrefix + target.String() }

func isDangling(name string) bool { return strings.HasPrefix(name, danglingPrefix) || isStep(name) }

// stepPrefix begins the record names of images that are the state after one
// instruction of a build. They have no name, and are not listed unless all are.
const stepPrefix = "<step>@"

// StepName is the record name for the state after an instruction of a build.
func StepName(target digest.Digest) string { return stepPrefix + target.String() }

func isStep(name string) bool { return strings.HasPrefix(name, stepPrefix) }

// isByDigest tells records of images that were pulled by digest: repository and
// digest, without a tag.
func isByDigest(name string) bool { return !isDangling(name) && strings.Contains(name, "@") }

// hexID matches what may be an image ID or the beginning of one.
var hexID = regexp.MustCompile(`^(sha256:)?[0-9a-f]{1,64}$`)

// failf is fmt.Errorf for an error of a class of containerd/errdefs.
func failf(class error, format string, args ...any) error {
	return problem.Errorf(class, format, args...)
}

// notFound says that nothing is known by ref, in Docker's words.
func notFound(ref string) error {
	name := ref
	if named, err := reference.ParseNormalizedNamed(ref); err == nil {
		name = reference.FamiliarString(reference.TagNameOnly(named))
	}
	return failf(errdefs.ErrNotFound, "No such image: %s", name)
}

// familiar shortens a record name to what people type: docker.io/library/x:y
// becomes x:y. A nameless record has none.
func familiar(name string) string {
	if isDangling(name) {
		return ""
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}

// shortID cuts an ID or digest to the 12 digits that people see.
func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), 12)]
}
