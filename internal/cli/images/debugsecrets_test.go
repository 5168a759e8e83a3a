package images

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReadSecret(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"file": "of file", "plain": "of plain"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("VARIABLE", "of variable")
	t.Setenv("plainvar", "of plainvar")
	for flag, want := range map[string]string{
		"id=a,src=file": "of file", "type=file,id=a,source=file": "of file", "id=a,env=VARIABLE": "of variable",
		"type=env,id=a,src=VARIABLE": "of variable", "id=plain": "of plain", "id=plainvar": "of plainvar",
		`id=a,"src=` + filepath.Join(".", "file") + `"`: "of file",
	} {
		got, err := readSecrets([]string{flag})
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %v, %v", flag, got, err)
			continue
		}
		for _, data := range got {
			if string(data) != want {
				t.Errorf("%s: %q, want %q", flag, data, want)
			}
		}
	}
	for _, flag := range []string{"src=file", "id=a,src=nowhere", "id=a,color=red", "id", "type=dir,id=a", "id=nowhere"} {
		if _, err := readSecrets([]string{flag}); err == nil {
			t.Errorf("%s was taken", flag)
		}
	}
}
