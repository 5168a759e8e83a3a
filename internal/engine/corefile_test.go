package engine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/record/death"
)

func TestCoreName(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"core", "core", true},
		{"core", "core.17", true},
		{"core", "core.txt", false},
		{"core", "score", false},
		{"core.%e.%p", "core.my app.1", true},
		{"core.%e.%p", "core", false},
		{"c%%[x]", "c%[x]", true},
		{"c%%[x]", "c%x", false},
	} {
		if got := coreName(tt.pattern, tt.name); got != tt.want {
			t.Errorf("pattern %q, name %q: %v", tt.pattern, tt.name, got)
		}
	}
}

// TestFindCore finds the newest one of the run, and nothing outside of the container's files.
func TestFindCore(t *testing.T) {
	dir := t.TempDir()
	root, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
	began := time.Now().Add(-time.Hour)
	for name, at := range map[string]time.Time{
		filepath.Join(root, "srv/core.1"): began.Add(-time.Minute), filepath.Join(root, "srv/core.2"): began.Add(time.Minute),
		filepath.Join(root, "srv/core.3"): began.Add(2 * time.Minute), filepath.Join(root, "srv/core.txt"): began.Add(3 * time.Minute),
		filepath.Join(outside, "core"): began.Add(time.Minute),
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("four"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "core"), filepath.Join(root, "core")); err != nil {
		t.Fatal(err)
	}
	got, err := findCore(root, "/srv/core", began)
	if diff := cmp.Diff(&death.Core{Path: "/srv/core.3", Bytes: 4}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	for _, pattern := range []string{"/link/core", "/core", "/nosuch/core", "/../outside/core"} {
		if got, _ := findCore(root, pattern, began); got != nil {
			t.Errorf("%s: %+v", pattern, got)
		}
	}
}
