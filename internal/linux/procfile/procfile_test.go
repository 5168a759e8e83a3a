package procfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cmdline")
	if err := os.WriteFile(path, []byte("sleep\x00100\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	for most, want := range map[int]string{5: "sleep", 10: "sleep\x00100\x00", 100: "sleep\x00100\x00"} {
		if got, err := Read(path, most); err != nil || string(got) != want {
			t.Errorf("at most %d: %q, %v", most, got, err)
		}
	}
	if _, err := Read(path+"s", 5); !os.IsNotExist(err) {
		t.Error(err)
	}
}
