package crilog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCurrent: it is the file that the next line goes to.
func TestCurrent(t *testing.T) {
	dir := t.TempDir()
	if got := Current(dir); got != "" {
		t.Errorf("of an empty directory: %q", got)
	}
	if got := Current(filepath.Join(dir, "none")); got != "" {
		t.Errorf("of no directory: %q", got)
	}
	w, err := OpenWriter(openDir(t, dir), Options{MaxSize: 4096, MaxFiles: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	before := ""
	for i := range 3 {
		line := strings.Repeat("x", 3000) + "\n"
		if err := w.Write(Stdout, []byte(line), time.Now()); err != nil {
			t.Fatal(err)
		}
		path := Current(dir)
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(string(text), " F "+line) || path == before {
			t.Errorf("line %d: %q (before %q), %d bytes, %v", i, path, before, len(text), err)
		}
		before = path
	}
}
