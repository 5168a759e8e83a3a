package runtime

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlainContainer(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name   string
		change func(*Bundle)
	}{
		{"user namespace", func(*Bundle) {}},
		{"host's user namespace", onHost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{t: t, r: w.r, dir: w.dir, parent: w.parent, image: w.image}
			b := w.shell("echo hello; echo problem >&2; id -u; hostname; exit 3")
			tt.change(&b)
			out, exit := w.run(b)
			if diff := cmp.Diff("0\nbox\nhello\nproblem\n", sortLines(out)); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
			if exit.Code != 3 || !exit.Observed {
				t.Errorf("exit = %+v, want code 3, observed", exit)
			}
		})
	}
}

// sortLines makes the two output streams comparable, which have no order
// between them.
func sortLines(s string) string {
	lines := strings.SplitAfter(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}
