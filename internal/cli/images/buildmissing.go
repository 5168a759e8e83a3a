package images

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/portholehq/porthole/internal/buildspec"
	"github.com/portholehq/porthole/internal/cli/buildcontext"
	"github.com/portholehq/porthole/internal/cli/command"
)

// notFound is how BuildKit tells of a file that a COPY or an ADD has not found.
var notFound = regexp.MustCompile(`"(/[^"]*)": not found`)

// tellMissing tells why a build has not found a file of a context of this machine,
// if that is why it failed: the daemon does not know what was left out.
func (o *buildOptions) tellMissing(ctx context.Context, a *command.App, where string, failed error) {
	found := notFound.FindStringSubmatch(failed.Error())
	if found == nil || where == "-" || buildspec.IsURL(where) {
		return
	}
	file := "Dockerfile"
	if inside, ok := pathInside(where, o.file); ok && o.file != "" {
		file = inside
	}
	line := copiedAt(cmp.Or(o.file, filepath.Join(where, "Dockerfile")), found[1])
	if line == 0 {
		return // it may have been looked for elsewhere
	}
	bc, err := buildcontext.Open(where, filepath.ToSlash(file))
	if err != nil {
		return // the build itself has told of it
	}
	if why := bc.Missing(ctx, found[1]); why != "" {
		_, _ = fmt.Fprintf(a.Err, "Line %d copies %s: %s\n", line, command.Visible(found[1]), command.Visible(why))
	}
}

// copiedAt is the line of a Dockerfile that copies a path out of the context; 0: it
// cannot be told, as when another line copies the same path out of a stage.
func copiedAt(file, name string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	at := 0
	for i, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		if len(words) < 3 || !strings.EqualFold(words[0], "COPY") && !strings.EqualFold(words[0], "ADD") {
			continue
		}
		same := func(w string) bool { return path.Clean("/"+w) == name }
		from := func(w string) bool { return strings.HasPrefix(w, "--from=") }
		switch {
		case !slices.ContainsFunc(words[1:len(words)-1], same):
		case slices.ContainsFunc(words, from):
			return 0
		case at == 0:
			at = i + 1
		}
	}
	return at
}
