package archtest

import (
	"encoding/json"
	"io/fs"
	"os/exec"
	"path/filepath"
	"testing"
)

// moduleFile is what "go mod edit -json" says, as far as it matters here.
type moduleFile struct {
	Go      string
	Replace []struct {
		Old, New struct{ Path, Version string }
	}
}

// TestPinned: what is built is named by go.mod and go.sum alone, in each module of the repository: no folder of somebody's
// machine takes a module's place, and the language's version is whole.
func TestPinned(t *testing.T) {
	var files []string
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "go.mod" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 3 {
		t.Fatalf("modules found: %v", files)
	}
	for _, name := range files {
		t.Run(filepath.Dir(name), func(t *testing.T) {
			out, err := exec.Command("go", "mod", "edit", "-json", name).Output()
			if err != nil {
				t.Fatal(err)
			}
			var m moduleFile
			if err := json.Unmarshal(out, &m); err != nil {
				t.Fatal(err)
			}
			if m.Go == "" {
				t.Error("no version of Go")
			}
			for _, r := range m.Replace {
				if r.New.Version == "" {
					t.Errorf("%s is replaced by the folder %s", r.Old.Path, r.New.Path)
				}
			}
		})
	}
}
