package build

import (
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

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
