package manual

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/portholehq/porthole/internal/cli"
)

// tree is the command line as the generator sees it.
func tree(t *testing.T) *cobra.Command {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "DOCKER_") || strings.HasPrefix(name, "PORTHOLE_") || strings.HasPrefix(name, "BUILDX_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("HOME", "~")
	return cli.Tree()
}

// TestCommitted: the pages in docs/commands say what the command line says.
func TestCommitted(t *testing.T) {
	const again = "\ngo generate ./internal/cli/manual writes them anew"
	dir := filepath.FromSlash("../../../docs/commands")
	pages := Markdown(tree(t))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if pages[e.Name()] == nil {
			t.Errorf("%s is about no command%s", e.Name(), again)
		}
	}
	for name, page := range pages {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if diff := cmp.Diff(string(page), string(have)); err != nil || diff != "" {
			t.Errorf("%s: %v (-wanted +there)\n%s%s", name, err, diff, again)
		}
	}
}

// TestMarkdownLinks: each page that another leads to is there.
func TestMarkdownLinks(t *testing.T) {
	pages := Markdown(tree(t))
	link := regexp.MustCompile(`\]\(([^)]+)\)`)
	seen := map[string]bool{"README.md": true}
	for name, page := range pages {
		for _, m := range link.FindAllSubmatch(page, -1) {
			if to := string(m[1]); pages[to] == nil {
				t.Errorf("%s leads to %s, which is not there", name, to)
			} else {
				seen[to] = true
			}
		}
	}
	for name := range pages {
		if !seen[name] {
			t.Errorf("no page leads to %s", name)
		}
	}
}

// TestMan: pages hold the requests that are meant, and no others.
func TestMan(t *testing.T) {
	pages := Man(tree(t))
	request := regexp.MustCompile(`^\.(\\" .*|TH [A-Z-]+ 1 "" Porthole "Porthole manual"|SH [A-Z ]+|TP|PP|EX|EE|br)$`)
	for name, page := range pages {
		if target, ok := strings.CutPrefix(string(page), ".so man1/"); ok {
			if to := strings.TrimSpace(target); pages[to] == nil || strings.HasPrefix(string(pages[to]), ".so") {
				t.Errorf("%s stands for %s, which is no page", name, to)
			}
			continue
		}
		for i, line := range strings.Split(string(page), "\n") {
			if strings.HasPrefix(line, ".") && !request.MatchString(line) || strings.HasPrefix(line, "'") {
				t.Errorf("%s:%d: %q", name, i+1, line)
			}
		}
		title := strings.TrimSuffix(name, ".1")
		if !strings.Contains(string(page), ".SH NAME\n"+roff(title)+` \- `) {
			t.Errorf("%s does not tell its name", name)
		}
	}
	for _, name := range []string{"porthole.1", "porthole-run.1", "porthole-network-create.1", "porthole-build-context-ls.1"} {
		if !strings.Contains(string(pages[name]), ".SH DESCRIPTION") {
			t.Errorf("there is no %s among %q", name, slices.Sorted(maps.Keys(pages)))
		}
	}
	if got := string(pages["porthole-container-run.1"]); got != ".so man1/porthole-run.1\n" {
		t.Errorf("porthole-container-run.1: %q", got)
	}
}

// TestText: whatever a command says of itself is shown as it stands.
func TestText(t *testing.T) {
	root := &cobra.Command{Use: "x", Short: "Do | it"}
	verb := &cobra.Command{Use: "verb A", Short: "Do a_b", Run: func(*cobra.Command, []string) {}, Long: `Do *this*.
.SH is no request, 'nor this

  x verb \n   a | b
  x verb

The end.`}
	verb.Flags().StringP("name", "n", "it's", "First\n'second|<b>'")
	verb.Flags().Bool("none", false, "")
	_ = verb.Flags().MarkHidden("none")
	root.AddCommand(verb)
	if diff := cmp.Diff(`<!-- Made from the command line by go generate ./internal/cli/manual. -->

# x verb

`+"```text\nx verb A [flags]\n```"+`

Do \*this\*.
.SH is no request, 'nor this

`+"```text\n  x verb \\n   a | b\n  x verb\n```"+`

The end.

| option | default | |
| --- | --- | --- |
| `+"`-n, --name string` | `it's`"+` | First<br>'second\|\<b>' |
`, string(Markdown(root)["x-verb.md"])); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(`.\" Made from the command line by internal/cli/manual.
.TH X-VERB 1 "" Porthole "Porthole manual"
.SH NAME
x\-verb \- Do a_b
.SH SYNOPSIS
\fBx verb\fP A [flags]
.SH DESCRIPTION
Do *this*.
\&.SH is no request, \(aqnor this
.PP
.EX
  x verb \en   a | b
  x verb
.EE
.PP
The end.
.SH OPTIONS
.TP
\fB\-n\fP, \fB\-\-name\fP \fIstring\fP
First
.br
\(aqsecond|<b>\(aq (default "it\(aqs")
.SH SEE ALSO
\fBporthole\fP(1)
`, string(Man(root)["x-verb.1"])); diff != "" {
		t.Error(diff)
	}
}
