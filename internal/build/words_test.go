package build

import (
	"errors"
	"io/fs"
	"testing"
	"unicode/utf8"

	"github.com/portholehq/porthole/internal/problem"
)

func TestReworded(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"good as it is", "failed to solve: no", "failed to solve: no"},
		{
			"broken verb",
			"digest mismatch for http://h/data: &{{sha256:66 data 2026-11-28 23:29:34 +0000 UTC %!s(*http.MetadataChecksumResponse=<nil>)} jfal} (expected: sha256:00)",
			"digest mismatch for http://h/data: it is sha256:66 (expected: sha256:00)",
		},
		{"which of both", "x: digest mismatch sha256:66: sha256:00", "x: digest mismatch: it is sha256:66 (expected: sha256:00)"},
		{"no text", "line 1: unknown instruction: \xff\x1b[31m", "line 1: unknown instruction: \uFFFD\uFFFD[31m (the Dockerfile is not text)"},
		{"no such branch", "repository does not contain ref nope", "repository does not contain ref nope (git ls-remote shows which there are)"},
		{"no agent", `no SSH key "" forwarded from the client`, `no SSH key "" forwarded from the client (give the build an agent: --ssh default)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := problem.WithClass(fs.ErrInvalid, errors.New(c.text))
			got := reworded(from)
			if got.Error() != c.want || !utf8.ValidString(got.Error()) {
				t.Errorf("%q, want %q", got, c.want)
			}
			if !errors.Is(got, fs.ErrInvalid) {
				t.Error("it is another error")
			}
		})
	}
	if err := reworded(nil); err != nil {
		t.Errorf("of nothing comes %v", err)
	}
}
