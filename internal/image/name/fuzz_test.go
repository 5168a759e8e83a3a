package name

import (
	"testing"

	"github.com/distribution/reference"
)

// FuzzParseTag sees that a name which was taken is the same when it is read back,
// in its long form and in the one that people are shown.
func FuzzParseTag(f *testing.F) {
	for _, s := range []string{"busybox", "localhost:5000/a/b:c", "docker.io/library/x:1", "sha256:abc", "A", "a@sha256:x", "index.docker.io/x", "a.b/c_d--e:F.1", "[::1]:5000/x", "x:", "library/sha256"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tagged, err := ParseTag(s)
		if err != nil {
			return
		}
		if len(tagged.Name()) > 4096 || len(tagged.Tag()) > 128 || tagged.Tag() == "" {
			t.Errorf("ParseTag(%q) = %q", s, tagged)
		}
		for _, form := range []string{tagged.String(), reference.FamiliarString(tagged)} {
			again, err := ParseTag(form)
			if err != nil || again.String() != tagged.String() {
				t.Errorf("ParseTag(%q) = %q, and %q gives %v, %v", s, tagged, form, again, err)
			}
		}
	})
}
