package shellword

import (
	"os/exec"
	"testing"
)

// TestQuote has a shell read the words.
func TestQuote(t *testing.T) {
	for _, name := range []string{"plain-1.0:x/y", "", "two words", "it's", "a;touch /x", "$HOME", "`id`", "line\nline", "*", "~", "\\"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+Quote(name)).Output()
		if err != nil || string(out) != name {
			t.Errorf("%q is read as %q, %v", name, out, err)
		}
	}
	if Quote("/srv/a_b-c") != "/srv/a_b-c" {
		t.Error("a plain name is quoted")
	}
}
