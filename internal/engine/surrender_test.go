package engine

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReaches(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "run", "api.sock")
	for _, d := range []string{"run", "other"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("run", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for source, want := range map[string]bool{
		"/": true, dir: true, filepath.Join(dir, "run"): true, socket: true, filepath.Join(dir, "link"): true,
		filepath.Join(dir, "link", "api.sock"): true, filepath.Join(dir, "other"): false, filepath.Join(dir, "ru"): false,
		socket + ".old": false,
	} {
		if got := reaches(source, []string{socket}); got != want {
			t.Errorf("reaches %s: %v, want %v", source, got, want)
		}
	}
}
