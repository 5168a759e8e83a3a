package buildcontext

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestContext(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		".dockerignore": "# comment\n*.txt\n\n!keep.txt\nlogs\n!logs/last\nDockerfile\n",
		"Dockerfile":    "FROM x", "a.txt": "a", "keep.txt": "k", "logs/old": "o", "logs/last": "l", "src/main.go": "m", "src/b.txt": "b",
	})
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	c, err := Open(dir, "Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = c.Walk(t.Context(), func(e Entry) error {
		got[e.Path] = ""
		if e.Rule != nil {
			got[e.Path] = e.Rule.String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		".dockerignore": "", "Dockerfile": "", "a.txt": ".dockerignore:2: *.txt", "keep.txt": "", "link": "",
		"logs": ".dockerignore:5: logs", "logs/old": ".dockerignore:5: logs", "logs/last": "",
		"src": "", "src/main.go": "", "src/b.txt": "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}

	var sent bytes.Buffer
	if err := c.Send(t.Context(), &sent); err != nil {
		t.Fatal(err)
	}
	var names []string
	r := tar.NewReader(&sent)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s belongs to %d:%d %q", h.Name, h.Uid, h.Gid, h.Uname)
		}
		if h.Name == "link" && h.Linkname != "/etc/passwd" {
			t.Errorf("link leads to %q", h.Linkname)
		}
		names = append(names, h.Name)
	}
	if got, want := strings.Join(names, " "), ".dockerignore Dockerfile keep.txt link logs/last src/ src/b.txt src/main.go"; got != want {
		t.Errorf("sent %s, want %s", got, want)
	}
}

// An ignore file of the Dockerfile's own goes before the common one, and a
// Dockerfile in a directory that is left out is sent all the same.
func TestOwnIgnoreFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		".dockerignore": "b", "docker/web": "FROM x", "docker/web.dockerignore": "docker\na", "docker/other": "", "a": "", "b": "",
	})
	c, err := Open(dir, "docker/web")
	if err != nil {
		t.Fatal(err)
	}
	var sent []string
	err = c.Walk(t.Context(), func(e Entry) error {
		if e.Rule == nil {
			sent = append(sent, e.Path)
		}
		return nil
	})
	if got, want := strings.Join(sent, " "), ".dockerignore b docker/web docker/web.dockerignore"; err != nil || got != want {
		t.Errorf("sent %s (%v), want %s", got, err, want)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{".dockerignore": "[", "file": ""})
	for name, path := range map[string]string{"bad pattern": dir, "a file": filepath.Join(dir, "file"), "nothing": filepath.Join(dir, "none")} {
		if _, err := Open(path, "Dockerfile"); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
