package toolbox

import (
	"archive/tar"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/portholehq/porthole/internal/testenv"
)

// The image is made before the program; a test run that did not make it says
// so.
func TestArchive(t *testing.T) {
	r, name, digest, err := Archive()
	if errors.Is(err, ErrNotBuilt) {
		testenv.Skip(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if name != "porthole/toolbox:latest" || !strings.HasPrefix(digest, "sha256:") {
		t.Errorf("name %q, digest %q", name, digest)
	}
	names := map[string]bool{}
	for tr := tar.NewReader(r); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names[hdr.Name] = true
	}
	for _, want := range []string{"index.json", "oci-layout", "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:")} {
		if !names[want] {
			t.Errorf("archive has no %s", want)
		}
	}
}

func TestManifestDigestOfGarbage(t *testing.T) {
	for _, data := range []string{"", "garbage", strings.Repeat("\x00", 1024)} {
		if _, err := manifestDigest([]byte(data)); err == nil {
			t.Errorf("no error for %q", data)
		}
	}
}
