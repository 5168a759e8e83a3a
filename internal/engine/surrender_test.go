package engine

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReached(t *testing.T) {
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
		if got := (preciousPlaces{places: []string{realPath(t.Context(), socket)}}).reached(t.Context(), source, true); got != want {
			t.Errorf("reached from %s: %v, want %v", source, got, want)
		}
	}
	// A part of a tree is enough, if it can be written to.
	tree := preciousPlaces{trees: []string{realPath(t.Context(), filepath.Join(dir, "run"))}}
	for source, want := range map[string]map[bool]bool{
		dir: {true: true, false: true}, filepath.Join(dir, "link"): {true: true, false: true}, socket: {true: true, false: false},
		filepath.Join(dir, "other"): {true: false, false: false}, filepath.Join(dir, "running"): {true: false, false: false},
	} {
		for writable, want := range want {
			if got := tree.reached(t.Context(), source, writable); got != want {
				t.Errorf("reached from %s, writable %v: %v, want %v", source, writable, got, want)
			}
		}
	}
}
