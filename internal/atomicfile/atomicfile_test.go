package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/portholehq/porthole/internal/failpoint"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := Write(name, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := Write(name, []byte("new"), 0o640); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
	buf := make([]byte, 3)
	if _, err := old.Read(buf); err != nil || string(buf) != "old" {
		t.Errorf("a reader of the old file sees %q, %v", buf, err)
	}
	st, err := os.Stat(name)
	if err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestWriteThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.Mkdir(name, 0o700); err != nil { // a directory cannot be replaced by a file
		t.Fatal(err)
	}
	if err := Write(name, []byte("x"), 0o600); err == nil {
		t.Fatal("no error")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "f" {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := Write(filepath.Join(dir, "none", "f"), nil, 0o600); err == nil {
		t.Error("no error for a directory that does not exist")
	}
}

// TestWriteBreaks breaks it before and after the rename.
func TestWriteBreaks(t *testing.T) {
	for point, want := range map[string]string{"atomicfile.rename": "old", "atomicfile.sync": "new"} {
		t.Run(point, func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, "f")
			if err := Write(name, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			defer failpoint.Fail(point, syscall.EIO)()
			err := Write(name, []byte("new"), 0o600)
			if !errors.Is(err, syscall.EIO) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("error %v, want only %v", err, syscall.EIO)
			}
			if got, err := os.ReadFile(name); err != nil || string(got) != want {
				t.Errorf("the file has %q, %v, want %q", got, err, want)
			}
			if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
				t.Errorf("left behind: %v, %v", all, err)
			}
		})
	}
}
