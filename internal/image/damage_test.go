package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portholehq/porthole/internal/boltcheck"
	"github.com/portholehq/porthole/internal/testenv"
)

// A database that a disk has damaged keeps the store from being opened, with what to do, and stays as it is. bbolt would
// end the process.
func TestOpenDamaged(t *testing.T) {
	testenv.NeedsRoot(t)
	for _, name := range []string{"metadata.db", "layers/overlay/metadata.db"} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := openAt(t, root, Limits{})
			load(t, s, ociArchive(t, "a", small(t, "a")))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(root, name)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			bad := append([]byte(nil), whole...)
			for i := 2 * os.Getpagesize(); i < len(bad); i++ { // all but the two roots
				bad[i] = 0xff
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), Options{Root: root})
			if !errors.Is(err, boltcheck.ErrDamaged) || !strings.Contains(err.Error(), "put back a copy of all of") {
				t.Errorf("Open: %v", err)
			}
			if is, err := os.ReadFile(path); err != nil || string(is) != string(bad) {
				t.Errorf("the file was changed: %v", err)
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			s = openAt(t, root, Limits{})
			if list, err := s.List(t.Context(), ListOptions{}); err != nil || len(list) != 1 {
				t.Errorf("with its copy there are %d images, %v", len(list), err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
