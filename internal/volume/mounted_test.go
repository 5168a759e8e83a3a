package volume

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"

	"github.com/portholehq/porthole/internal/testenv"
)

func isMounted(t *testing.T, path string) bool {
	t.Helper()
	mounted, err := mountinfo.Mounted(path)
	if err != nil {
		t.Fatal(err)
	}
	return mounted
}

func TestOptionsAreChecked(t *testing.T) {
	s := openStore(t, t.TempDir())
	for want, options := range map[string]map[string]string{
		`invalid option: "color"`:                         {"color": "red"},
		`missing required option: "type"`:                 {"device": "/x"},
		`missing required option: "device"`:               {"type": "tmpfs"},
		`quota size requested but no quota support`:       {"size": "1g"},
		`missing required option: "device"` + "\x00alone": {"o": "ro"},
	} {
		want, _, _ = strings.Cut(want, "\x00")
		if _, err := s.Create("v1", CreateOptions{Options: options}); !errdefs.IsInvalidArgument(err) || err.Error() != want {
			t.Errorf("%v: %v, want %s", options, err, want)
		}
	}
	if list := s.List(); len(list) != 0 {
		t.Errorf("volumes %v", list)
	}
}

// Who keeps a volume busy is named, and keeps nobody from anything.
func TestBusyVolume(t *testing.T) {
	testenv.NeedsRoot(t)
	var log bytes.Buffer
	s, err := Open(t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Create("busy", CreateOptions{Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Mount("busy", "a"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat")
	cmd.Dir = v.Path
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
	held, err := s.Unmount("busy", "a")
	if err != nil || isMounted(t, v.Path) {
		t.Errorf("%v, mounted %v", err, isMounted(t, v.Path))
	}
	want := fmt.Sprintf("cat (pid %d): working directory, %s", cmd.Process.Pid, v.Path)
	if len(held) != 1 || held[0].String() != want || !strings.Contains(log.String(), want) {
		t.Errorf("held by %v, want %s; the log says %s", held, want, &log)
	}
}

// A volume with options is mounted from its first user to its last.
func TestMountedVolume(t *testing.T) {
	testenv.NeedsRoot(t)
	root, source := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "file"), []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, root)
	options := map[string]string{"type": "none", "o": "bind", "device": source}
	v, err := s.Create("bound", CreateOptions{Options: options})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create("bound", CreateOptions{Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}}); !errdefs.IsConflict(err) {
		t.Errorf("other options: %v", err)
	}
	for _, user := range []string{"a", "b", "a"} {
		if err := s.Mount("bound", user); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(v.Path, "file")); err != nil {
		t.Error(err)
	}
	if _, err := s.Unmount("bound", "a"); err != nil || !isMounted(t, v.Path) {
		t.Errorf("with one user left: %v, mounted %v", err, isMounted(t, v.Path))
	}
	if _, err := s.Unmount("bound", "b"); err != nil || isMounted(t, v.Path) {
		t.Errorf("with no user left: %v, mounted %v", err, isMounted(t, v.Path))
	}

	// The next daemon knows who lives on, and clears up after the others.
	if err := s.Mount("bound", "a"); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, root)
	s.Hold("bound", "a")
	if err := s.UnmountUnused(); err != nil || !isMounted(t, v.Path) {
		t.Errorf("in use over a restart: %v, mounted %v", err, isMounted(t, v.Path))
	}
	s = openStore(t, root)
	if err := s.UnmountUnused(); err != nil || isMounted(t, v.Path) {
		t.Errorf("unused over a restart: %v, mounted %v", err, isMounted(t, v.Path))
	}

	// What was mounted is not deleted with the volume.
	if err := s.Mount("bound", "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("bound"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(source, "file")); err != nil {
		t.Error(err)
	}
}

func TestMountFails(t *testing.T) {
	testenv.NeedsRoot(t)
	s := openStore(t, t.TempDir())
	v, err := s.Create("none", CreateOptions{Options: map[string]string{"type": "none", "o": "bind", "device": "/does/not/exist"}})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Mount("none", "a")
	if err == nil || !strings.Contains(err.Error(), "failed to mount local volume: mount /does/not/exist:"+v.Path+", flags: bind: no such file or directory") {
		t.Errorf("error %v", err)
	}
	if isMounted(t, v.Path) {
		t.Error("mounted")
	}
}

// The options of a volume may hold a password, which errors must not show: they
// are logged, and kept with the container's history.
func TestMountErrorHidesPassword(t *testing.T) {
	testenv.NeedsRoot(t)
	s := openStore(t, t.TempDir())
	options := map[string]string{"type": "nosuchfs", "o": "username=me,password=se=cret,pass=se=cret,vers=3", "device": "//host/share"}
	if _, err := s.Create("share", CreateOptions{Options: options}); err != nil {
		t.Fatal(err)
	}
	err := s.Mount("share", "a")
	if err == nil || strings.Contains(err.Error(), "cret") || !strings.Contains(err.Error(), "username=me,password=********,pass=********,vers=3") {
		t.Errorf("error %v", err)
	}
}
