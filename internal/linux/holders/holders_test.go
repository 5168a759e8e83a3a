package holders

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

// TestUnmount has a process hold a mount in each way, and tells which is named.
func TestUnmount(t *testing.T) {
	testenv.NeedsRoot(t)
	for _, tt := range []struct {
		name string
		hold func(t *testing.T, dir string) *exec.Cmd // nil: nobody does
		use  string
	}{
		{name: "nobody"},
		{"working directory", func(_ *testing.T, dir string) *exec.Cmd {
			cmd := exec.Command("cat")
			cmd.Dir = dir
			return cmd
		}, "cat (pid PID): working directory, DIR"},
		{"open file", func(t *testing.T, dir string) *exec.Cmd {
			f, err := os.Create(filepath.Join(dir, "log\n"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			cmd := exec.Command("cat")
			cmd.ExtraFiles = []*os.File{f}
			return cmd
		}, `cat (pid PID): open file 3, "DIR/log\n"`},
		{"mapped file", func(t *testing.T, dir string) *exec.Cmd {
			self, err := exec.LookPath("cat")
			if err != nil {
				t.Fatal(err)
			}
			program, err := os.ReadFile(self)
			if err != nil {
				t.Fatal(err)
			}
			copied := filepath.Join(dir, "copied")
			if err := os.WriteFile(copied, program, 0o755); err != nil {
				t.Fatal(err)
			}
			return exec.Command(copied)
		}, "copied (pid PID): mapped file, DIR/copied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "m")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			var want string
			if tt.hold != nil {
				cmd := tt.hold(t, dir)
				in, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					_ = in.Close() // its end
					_ = cmd.Wait()
				})
				for _, f := range cmd.ExtraFiles {
					_ = f.Close()
				}
				want = strings.NewReplacer("PID", strconv.Itoa(cmd.Process.Pid), "DIR", dir).Replace(tt.use)
			}
			held, busy, err := Unmount(t.Context(), dir)
			if err != nil || busy != (tt.hold != nil) {
				t.Fatalf("busy %v, %v", busy, err)
			}
			if want != "" && (len(held) != 1 || held[0].String() != want) {
				t.Errorf("held by %v, want %s", held, want)
			}
			if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != unix.EINVAL {
				t.Errorf("it is still mounted: %v", err)
			}
		})
	}
}

// TestBeneath: a mount that stands on another one keeps it.
func TestBeneath(t *testing.T) {
	testenv.NeedsRoot(t)
	dir := t.TempDir()
	at := []string{dir, filepath.Join(dir, "b")}
	for _, d := range at {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", d, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	held, busy, err := Unmount(t.Context(), dir)
	if err != nil || !busy || len(held) != 1 || held[0].String() != "mount at "+at[1] {
		t.Errorf("held by %v, busy %v, %v", held, busy, err)
	}
}
