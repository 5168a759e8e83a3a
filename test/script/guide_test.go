package script

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/testenv"
)

// guideBlock is one block of commands of a guide, and what it is said to print.
type guideBlock struct {
	line     int
	commands []string
	want     []string // in this order, among others; … stands for anything
}

// readGuide finds the blocks of a document. A block of text belongs to the commands
// before it.
func readGuide(t *testing.T, path string) (blocks []guideBlock) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kind := ""
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "```") && kind != "":
			kind = ""
		case line == "```sh":
			kind = "sh"
			blocks = append(blocks, guideBlock{line: i + 1})
		case line == "```text" && len(blocks) > 0:
			kind = "text"
		case strings.HasPrefix(line, "```"):
			t.Fatalf("%s:%d: a block that no test would run", path, i+1)
		case kind == "sh":
			b := &blocks[len(blocks)-1]
			b.commands = append(b.commands, line)
		case kind == "text":
			b := &blocks[len(blocks)-1]
			b.want = append(b.want, line)
		}
	}
	return blocks
}

// words is text with one blank between them.
func words(s string) string { return strings.Join(strings.Fields(s), " ") }

// missingLine is the first wanted line that is not in the output behind the one
// before it; empty: all are there. Blanks count as one.
func missingLine(out string, want []string) string {
	lines := strings.Split(out, "\n")
	for _, w := range want {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(words(w)), "…", ".*")
		re := regexp.MustCompile("^(- )?" + pattern + "$")
		found := false
		for len(lines) > 0 && !found {
			found = re.MatchString(words(lines[0]))
			lines = lines[1:]
		}
		if !found {
			return w
		}
	}
	return ""
}

// TestGuide runs what the tour of debugging shows, so that it does not go stale.
func TestGuide(t *testing.T) {
	begin(t, "busybox", "nginx", "distroless/hello", "broken/crlf", "broken/localhost-bind")
	dir := t.TempDir()
	shell := func(ctx context.Context, script string) string {
		cmd := exec.CommandContext(ctx, "sh", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+daemon.Host(), "HOME="+dir, "PATH="+daemon.Bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput() // a container's exit code is the command's: the output counts
		if err != nil {
			return fmt.Sprintf("%s%v\n", out, err)
		}
		return string(out)
	}
	blocks := readGuide(t, filepath.FromSlash("../../docs/debugging.md"))
	if len(blocks) < 10 {
		t.Fatalf("the guide has %d blocks only", len(blocks))
	}
	for _, b := range blocks {
		t.Run(fmt.Sprintf("line%d", b.line), func(t *testing.T) {
			if err := signalsWatched(); err != nil && b.watches() {
				testenv.Skip(t, "the kernel cannot be watched on this machine: %v", err)
			}
			if len(b.want) == 0 {
				t.Error("nothing is said about what it prints")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			first := shell(ctx, strings.Join(b.commands, "\n"))
			last := b.commands[len(b.commands)-1]
			out := first
			for missingLine(out, b.want) != "" && ctx.Err() == nil { // a container may not have come so far
				time.Sleep(200 * time.Millisecond)
				out = first + shell(ctx, last)
			}
			if w := missingLine(out, b.want); w != "" {
				t.Errorf("%q is not in what `%s` prints:\n%s", w, last, out)
			}
		})
	}
}

// watches tells whether a block needs a kernel that can be watched.
func (b *guideBlock) watches() bool {
	text := strings.Join(b.commands, "\n")
	return strings.Contains(text, "porthole trace") || strings.Contains(text, "--log-denials") || strings.Contains(text, "--blackbox")
}
