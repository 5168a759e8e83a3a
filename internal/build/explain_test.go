package build

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/build/history"
)

func TestFileChanges(t *testing.T) {
	then := &history.Files{Root: "1", List: map[string]history.File{
		"a.txt": {Mode: 0o644, Size: 1, Digest: "a"}, "b.txt": {Mode: 0o644, Size: 1, Digest: "b"}, "gone.txt": {Mode: 0o644, Digest: "g"},
		"src": {Mode: uint32(fs.ModeDir | 0o755)}, "src/main.go": {Mode: 0o644, Size: 3, Digest: "m"}, "src/x.log": {Mode: 0o644, Size: 3, Digest: "x"},
		"link": {Mode: uint32(fs.ModeSymlink | 0o777), Link: "src"},
	}}
	now := &history.Files{Root: "2", List: map[string]history.File{
		"a.txt": {Mode: 0o644, Size: 1, Digest: "a2"}, "b.txt": {Mode: 0o600, Size: 1, Digest: "b2"}, "new.txt": {Mode: 0o644, Digest: "n"},
		"src": {Mode: uint32(fs.ModeDir | 0o755)}, "src/main.go": {Mode: 0o644, Size: 4, Digest: "m2"}, "src/x.log": {Mode: 0o644, Size: 3, Digest: "x2"},
		"link": {Mode: uint32(fs.ModeSymlink | 0o777), Link: "src"}, "srcs": {Mode: 0o644, Digest: "s"},
	}}
	for name, c := range map[string]struct {
		take history.Take
		want map[string]string
	}{
		"one file":      {history.Take{Path: "/a.txt"}, map[string]string{"a.txt": "changed"}},
		"a mode":        {history.Take{Path: "/b.txt"}, map[string]string{"b.txt": "mode"}},
		"a wildcard":    {history.Take{Path: "/[g-n]*.txt", Wildcard: true}, map[string]string{"gone.txt": "removed", "new.txt": "added"}},
		"no wildcard":   {history.Take{Path: "/*.txt"}, map[string]string{}},
		"a directory":   {history.Take{Path: "/src"}, map[string]string{"src/main.go": "changed", "src/x.log": "changed"}},
		"all but logs":  {history.Take{Path: "/src", Exclude: []string{"*.log"}}, map[string]string{"src/main.go": "changed"}},
		"only logs":     {history.Take{Path: "/src/", Include: []string{"*.log"}}, map[string]string{"src/x.log": "changed"}},
		"through links": {history.Take{Path: "/link/main.go"}, map[string]string{"src/main.go": "changed"}},
		"all": {history.Take{Path: "/"}, map[string]string{
			"a.txt": "changed", "b.txt": "mode", "gone.txt": "removed", "new.txt": "added", "src/main.go": "changed", "src/x.log": "changed", "srcs": "added",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]string{}
			for _, f := range fileChanges(c.take, now, then) {
				got[f.Path] = f.Change
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
	// Of a list that was cut nothing is said that is not in it.
	then.Cut, now.Cut = true, true
	for _, f := range fileChanges(history.Take{Path: "/"}, now, then) {
		if f.Change == "added" || f.Change == "removed" {
			t.Errorf("%s is called %s", f.Path, f.Change)
		}
	}
}

// Links that lead to each other end, and none leads out.
func TestFollowLinks(t *testing.T) {
	files := &history.Files{List: map[string]history.File{"a": {Link: "b"}, "b": {Link: "a"}, "up": {Link: "../../../x"}, "d/abs": {Link: "/y/z"}}}
	for name, want := range map[string]string{"/up/f": "/x/f", "/d/abs": "/y/z", "/d/../q": "/q"} {
		if got := followLinks(name, files); got != want {
			t.Errorf("%s leads to %s, want %s", name, got, want)
		}
	}
	_ = followLinks("/a", files) // ends
}

// Of a context that has more files than are listed, the upper ones are, and of each
// directory that there is no room for, the digest.
func TestLister(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "big/1", "big/2", "big/3", "big/4", "small/x", "z"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		most int
		want string // "+" behind a directory as a whole
		cut  bool
	}{
		"room for all":       {9 + 2, "a big big/1 big/2 big/3 big/4 small small/x z", false},
		"to the last":        {9, "a big big/1 big/2 big/3 big/4 small small/x z", false},
		"not for one of all": {8, "a big big/1 big/2 big/3 big/4 small+ z", true},
		"not for the larger": {5, "a big+ small small/x z", true},
		"nor for any":        {3, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			sum := func(name string) (digest.Digest, error) { return digest.FromString(name), nil }
			l := lister{dir: dir, sum: sum, most: c.most, files: &history.Files{List: map[string]history.File{}}}
			if err := l.list(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got []string
			for name, f := range l.files.List {
				if fs.FileMode(f.Mode).IsDir() != (f.Digest == "") && !f.Whole {
					t.Errorf("digest of %s is %q", name, f.Digest)
				}
				if f.Whole {
					name += "+"
				}
				got = append(got, name)
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" || l.files.Cut != c.cut {
				t.Errorf("cut %v (-want +got):\n%s", l.files.Cut, diff)
			}
		})
	}
}

// A directory whose files are not listed is told of as a whole, if all of it is taken.
func TestWholeDirectory(t *testing.T) {
	dirMode := uint32(fs.ModeDir | 0o755)
	files := func(digest string) *history.Files {
		return &history.Files{Root: digest, Cut: true, List: map[string]history.File{
			"big": {Mode: dirMode, Whole: true, Digest: digest}, "same": {Mode: dirMode, Whole: true, Digest: "s"}, "f": {Mode: 0o644, Digest: "f"},
		}}
	}
	for name, c := range map[string]struct {
		take history.Take
		want []api.BuildFileChange
	}{
		"all":        {history.Take{Path: "/"}, []api.BuildFileChange{{Path: "big/", Change: "changed"}}},
		"it":         {history.Take{Path: "/big"}, []api.BuildFileChange{{Path: "big/", Change: "changed"}}},
		"another":    {history.Take{Path: "/same"}, nil},
		"some of it": {history.Take{Path: "/", Exclude: []string{"**/*.log"}}, nil},
	} {
		if diff := cmp.Diff(c.want, fileChanges(c.take, files("2"), files("1"))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// One that had room before is not taken for one whose files are gone.
	listed := files("1")
	listed.List["big"], listed.List["big/1"], listed.Cut = history.File{Mode: dirMode}, history.File{Mode: 0o644, Digest: "1"}, false
	if got := fileChanges(history.Take{Path: "/"}, files("2"), listed); got != nil {
		t.Errorf("changes %v, want none", got)
	}
}
