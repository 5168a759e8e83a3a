package stage

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	current = "/proc/thread-self/attr/apparmor/exec"
	older   = "/proc/thread-self/attr/exec"
)

// TestExecProfile stands in for /proc: AppArmor is on on few of the machines that
// run tests, and then only for those profiles that are loaded.
func TestExecProfile(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		want  map[string]string
		err   string
	}{
		{"several security modules", []string{current, older}, map[string]string{current: "exec mine", older: ""}, ""},
		{"older kernel", []string{older}, map[string]string{older: "exec mine"}, ""},
		{"no such thing", nil, nil, `unable to apply apparmor profile: apparmor failed to apply profile "mine": open ` + older + ": no such file or directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for _, name := range tt.files {
				if err := os.MkdirAll(filepath.Dir(root+name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(root+name, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := execProfile("mine", func(name string) (*os.File, error) {
				f, err := os.OpenFile(root+name, os.O_WRONLY, 0)
				if err != nil {
					return nil, &os.PathError{Op: "open", Path: name, Err: unix.ENOENT}
				}
				return f, nil
			})
			if got := message(err); got != tt.err {
				t.Errorf("error %q, want %q", got, tt.err)
			}
			for name, want := range tt.want {
				if got, err := os.ReadFile(root + name); err != nil || string(got) != want {
					t.Errorf("%s holds %q, %v, want %q", name, got, err, want)
				}
			}
		})
	}
}

// A refusal, as for a profile that is not loaded, is no reason to try elsewhere.
func TestExecProfileRefused(t *testing.T) {
	tried := 0
	err := execProfile("mine", func(name string) (*os.File, error) {
		tried++
		return nil, &os.PathError{Op: "open", Path: name, Err: unix.EACCES}
	})
	if want := `unable to apply apparmor profile: apparmor failed to apply profile "mine": open ` + current + ": permission denied"; message(err) != want || tried != 1 {
		t.Errorf("error %q after %d attempts, want %q after one", message(err), tried, want)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
