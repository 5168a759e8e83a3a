package copytar

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPlace(t *testing.T) {
	file, dir := End{Exists: true}, End{Exists: true, IsDir: true}
	at := func(e End, path string) End { e.Path = path; return e }
	for name, c := range map[string]struct {
		src, dst End
		dir, as  string
		err      error
	}{
		"file to new name":          {at(file, "/a/f"), End{Path: "/b/g"}, "/b", "g", nil},
		"file over file":            {at(file, "/a/f"), at(file, "/b/g"), "/b", "g", nil},
		"file into directory":       {at(file, "/a/f"), at(dir, "/b"), "/b", "f", nil},
		"file into no directory":    {at(file, "/a/f"), End{Path: "/b/"}, "", "", ErrNoDirectory},
		"file to a file as dir":     {at(file, "/a/f"), at(file, "/b/"), "", "", ErrNotDirectory},
		"file as dir":               {at(file, "/a/f/"), End{Path: "/b"}, "", "", ErrNotDirectory},
		"directory to new name":     {at(dir, "/a/d"), End{Path: "/b/e"}, "/b", "e", nil},
		"directory to new name/":    {at(dir, "/a/d"), End{Path: "/b/e/"}, "/b", "e", nil},
		"contents to new name":      {at(dir, "/a/d/."), End{Path: "/b/e"}, "/b", "e", nil},
		"directory into directory":  {at(dir, "/a/d"), at(dir, "/b"), "/b", "d", nil},
		"directory/ into directory": {at(dir, "/a/d/"), at(dir, "/b"), "/b", "d", nil},
		"contents into directory":   {at(dir, "/a/d/."), at(dir, "/b"), "/b", ".", nil},
		"directory over file":       {at(dir, "/a/d"), at(file, "/b"), "", "", ErrCopyDirectory},
	} {
		t.Run(name, func(t *testing.T) {
			gotDir, gotName, err := Place(c.src, c.dst)
			if !errors.Is(err, c.err) || gotDir != c.dir || gotName != c.as {
				t.Errorf("Place = %q, %q, %v; want %q, %q, %v", gotDir, gotName, err, c.dir, c.as, c.err)
			}
		})
	}
}

func TestKeepEnding(t *testing.T) {
	for _, c := range [][3]string{{"/a", "a/.", "/a/."}, {"/a", "a/", "/a/"}, {"/a", ".", "/a/."}, {"/", "/.", "/."}, {"/a", "a", "/a"}} {
		if got := KeepEnding(c[0], c[1]); got != c[2] {
			t.Errorf("KeepEnding(%q, %q) = %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// tree describes what is below a directory.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		line := d.Type().String()[:1] + " " + rel
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += "=" + string(text)
		}
		if d.Type()&fs.ModeSymlink != 0 {
			target, _ := os.Readlink(path)
			line += "->" + target
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	src := filepath.Join(t.TempDir(), "d")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(src, "sub", "deep"), 0o755))
	must(os.WriteFile(filepath.Join(src, "f"), []byte("text"), 0o640))
	must(os.Chmod(filepath.Join(src, "f"), 0o750|fs.ModeSetuid))
	must(os.Symlink("../f", filepath.Join(src, "sub", "link")))
	must(os.Symlink("/etc/passwd", filepath.Join(src, "abs")))
	must(os.Link(filepath.Join(src, "f"), filepath.Join(src, "sub", "hard")))
	must(os.Chmod(filepath.Join(src, "sub"), 0o500))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(src, "sub"), 0o700) })
	old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	must(os.Chtimes(filepath.Join(src, "sub"), old, old))

	var archive bytes.Buffer
	must(Pack(&archive, src, "d"))
	dst := t.TempDir()
	must(Unpack(bytes.NewReader(archive.Bytes()), dst, "d", "e", Caller))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dst, "e", "sub"), 0o700) })
	if diff := cmp.Diff(tree(t, src), tree(t, filepath.Join(dst, "e"))); diff != "" {
		t.Errorf("copy differs (-source +copy):\n%s", diff)
	}
	stat := func(name string) os.FileInfo {
		info, err := os.Lstat(filepath.Join(dst, "e", name))
		must(err)
		return info
	}
	if m := stat("f").Mode(); m != 0o750|fs.ModeSetuid {
		t.Errorf("mode of file = %v", m)
	}
	if s := stat("sub"); s.Mode().Perm() != 0o500 || !s.ModTime().Equal(old) {
		t.Errorf("directory = %v, %v", s.Mode(), s.ModTime())
	}
	if !os.SameFile(stat("f"), stat("sub/hard")) {
		t.Error("hard link became a file of its own")
	}
}

// entries makes an archive; a name ending in a slash is a directory, and
// name->target a link.
func entries(t *testing.T, list ...string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range list {
		head := &tar.Header{Name: e, Mode: 0o644, Typeflag: tar.TypeReg}
		if name, target, ok := strings.Cut(e, "->"); ok {
			head.Name, head.Linkname, head.Typeflag = name, target, tar.TypeSymlink
		}
		if name, target, ok := strings.Cut(e, "=>"); ok {
			head.Name, head.Linkname, head.Typeflag = name, target, tar.TypeLink
		}
		if strings.HasSuffix(e, "/") {
			head.Typeflag, head.Mode = tar.TypeDir, 0o755
		} else if head.Typeflag == tar.TypeReg {
			head.Size = 1
		}
		if err := w.WriteHeader(head); err != nil {
			t.Fatal(err)
		}
		if head.Size > 0 {
			_, _ = w.Write([]byte("x"))
		}
	}
	_ = w.Close()
	return &b
}

func TestUnpackNames(t *testing.T) {
	for name, c := range map[string]struct {
		in       []string
		old, new string
		want     []string
	}{
		"renamed":            {[]string{"d/", "d/f"}, "d", "e", []string{"d .", "d e", "- e/f=x"}},
		"contents":           {[]string{"d/", "d/f"}, "d", ".", []string{"d .", "- f=x"}},
		"without a name":     {[]string{"./", "./f"}, ".", "e", []string{"d .", "d e", "- e/f=x"}},
		"file":               {[]string{"f"}, "f", "g", []string{"d .", "- g=x"}},
		"missing parents":    {[]string{"d/a/b/f"}, "d", "e", []string{"d .", "d e", "d e/a", "d e/a/b", "- e/a/b/f=x"}},
		"hard link":          {[]string{"d/f", "d/g=>d/f"}, "d", "e", []string{"d .", "d e", "- e/f=x", "- e/g=x"}},
		"dots stay inside":   {[]string{"../../f"}, "d", "e", []string{"d .", "d e", "- e/f=x"}},
		"absolute is inside": {[]string{"/d/f"}, "d", "e", []string{"d .", "d e", "- e/f=x"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := Unpack(entries(t, c.in...), dir, c.old, c.new, Caller); err != nil {
				t.Fatal(err)
			}
			got := tree(t, dir)
			slices.Sort(got)
			slices.Sort(c.want)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUnpackStaysInside: an archive of a hostile container cannot reach
// outside the directory by links of its own.
func TestUnpackStaysInside(t *testing.T) {
	for name, list := range map[string][]string{
		"through an absolute link": {"d/", "d/l->/OUT", "d/l/f"},
		"through a relative link":  {"d/", "d/l->../../out", "d/l/f"},
		"hard link to outside":     {"d/", "d/l->/OUT", "d/h=>d/l/secret"},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			out := filepath.Join(base, "out")
			if err := os.Mkdir(out, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(out, "secret"), []byte("s"), 0o600); err != nil {
				t.Fatal(err)
			}
			in := filepath.Join(base, "in", "deep")
			if err := os.MkdirAll(in, 0o755); err != nil {
				t.Fatal(err)
			}
			for n := range list {
				list[n] = strings.ReplaceAll(list[n], "/OUT", out)
			}
			if err := Unpack(entries(t, list...), in, "d", "d", Caller); err == nil {
				t.Error("no error")
			}
			if diff := cmp.Diff([]string{"d .", "- secret=s"}, tree(t, out)); diff != "" {
				t.Errorf("outside has changed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnpackReplaces(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "target")
	for _, err := range []error{
		os.WriteFile(outside, []byte("kept"), 0o600),
		os.Symlink(outside, filepath.Join(dir, "f")),
		os.Mkdir(filepath.Join(dir, "d"), 0o755),
		os.WriteFile(filepath.Join(dir, "g"), []byte("old"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := Unpack(entries(t, "f"), dir, "f", "f", Caller); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(outside); string(text) != "kept" {
		t.Errorf("a link was followed: %q", text)
	}
	if err := Unpack(entries(t, "d"), dir, "d", "d", Caller); err == nil || !strings.Contains(err.Error(), "cannot overwrite directory") {
		t.Errorf("file over directory: %v", err)
	}
	if err := Unpack(entries(t, "g/"), dir, "g", "g", Caller); err == nil || !strings.Contains(err.Error(), "cannot overwrite non-directory") {
		t.Errorf("directory over file: %v", err)
	}
}

func TestUnpackBadArchive(t *testing.T) {
	whole := entries(t, "d/", "d/f").Bytes()
	for name, in := range map[string][]byte{"cut": whole[:700], "noise": bytes.Repeat([]byte("noise"), 500)} {
		if err := Unpack(bytes.NewReader(in), t.TempDir(), "d", "d", Caller); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
