package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/build/step"
)

// What a step leaves in the session's directory leads to nothing of the host, and
// is not waited for.
func TestWhatStepsLeave(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(at string) error{
		"link":      func(at string) error { return os.Symlink(outside, at) },
		"pipe":      func(at string) error { return unix.Mkfifo(at, 0o666) },
		"device":    func(at string) error { return os.Symlink("/dev/zero", at) },
		"directory": func(at string) error { return os.MkdirAll(filepath.Join(at, "more"), 0o700) },
		"huge": func(at string) error {
			return errors.Join(os.WriteFile(at, []byte("ls\n"), 0o600), os.Truncate(at, mostLeft+1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &debugSession{dir: t.TempDir()}
			at := filepath.Join(s.dir, historyFile)
			if err := put(at); err != nil {
				t.Fatal(err)
			}
			s.readHistory()
			if len(s.history) > 0 {
				t.Errorf("taken for history: %q", s.history)
			}
			if _, err := os.Lstat(at); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
		})
	}
	s := &debugSession{dir: t.TempDir()}
	long := strings.Repeat("x", 100_000)
	if err := os.WriteFile(filepath.Join(s.dir, historyFile), []byte("#1\nls\n"+long+"\nexit\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.readHistory()
	if diff := cmp.Diff([]string{"ls", long}, s.history); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

// Our tools are put where no step can have put a link.
func TestToolsForSteps(t *testing.T) {
	from := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(from, "bin"), 0o755), os.WriteFile(filepath.Join(from, "bin", "sh"), []byte("ours"), 0o755)); err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	s := &debugSession{dir: t.TempDir(), tools: t.TempDir(), b: &Builder{tools: func() (string, error) { return from, nil }}}
	for _, name := range []string{"tools", "tools.new", "bin"} {
		if err := os.Symlink(outside, filepath.Join(s.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := s.bringTools(); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("written outside: %v, %v", left, err)
	}
	if text, err := os.ReadFile(filepath.Join(s.tools, "bin", "sh")); err != nil || string(text) != "ours" {
		t.Errorf("%q, %v", text, err)
	}
}

// The links of a context lead nowhere but in there.
func TestReadDockerfile(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	dir := t.TempDir()
	if err := errors.Join(
		os.WriteFile(outside, []byte("hush"), 0o600), os.WriteFile(filepath.Join(dir, "real"), []byte("FROM x"), 0o600),
		os.Symlink("real", filepath.Join(dir, "near")), os.Symlink("/real", filepath.Join(dir, "root")),
		os.Symlink(outside, filepath.Join(dir, "far")), os.Symlink("../../../../../../.."+outside, filepath.Join(dir, "up")),
		os.Symlink("/dev/zero", filepath.Join(dir, "zero")), unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
		os.WriteFile(filepath.Join(dir, "huge"), nil, 0o600), os.Truncate(filepath.Join(dir, "huge"), mostDockerfile+1),
	); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"real", "near", "root", "/real"} {
		if text, err := readDockerfile(dir, name); err != nil || string(text) != "FROM x" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	for _, name := range []string{"far", "up", "zero", "pipe", "huge", ".", "none", "../" + filepath.Base(filepath.Dir(outside)) + "/outside"} {
		if text, err := readDockerfile(dir, name); err == nil {
			t.Errorf("%s: %.20q", name, text)
		}
	}
}

func TestLook(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600), os.Symlink("/file", filepath.Join(dir, "link")),
		os.Symlink("/../../../etc/passwd", filepath.Join(dir, "out")), unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	open := func(name string) *os.File {
		f, err := os.OpenFile(name, unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	root := open(dir)
	a, err := look(root, "/")
	names := map[string]string{}
	for _, f := range a.Files {
		names[f.Name] = f.Link
	}
	if diff := cmp.Diff(map[string]string{"file": "", "link": "/file", "out": "/../../../etc/passwd", "pipe": ""}, names); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, name := range []string{"/file", "/link"} {
		if a, err := look(root, name); err != nil || a.Text != "text" {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if a, err := look(root, "/out"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("out: %+v, %v", a, err)
	}
	if a, err := look(root, "/pipe"); err != nil || len(a.Files) != 1 || a.Files[0].Name != "pipe" {
		t.Errorf("pipe: %+v, %v", a, err)
	}
	// Secrets are mounted as files.
	file, err := openMount(step.Mount{Source: dir, Part: "file"})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if a, err := look(file, "/"); err != nil || a.Text != "text" {
		t.Errorf("a file that is mounted: %+v, %v", a, err)
	}
	if f, err := openMount(step.Mount{Source: dir, Part: "out"}); err == nil {
		t.Errorf("a part of a cache leads to %s", f.Name())
	}
}
