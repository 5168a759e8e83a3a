package mount_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
)

func TestParseOptions(t *testing.T) {
	tests := []struct {
		name string
		in   []string
		want mount.Options
	}{
		{"nothing", nil, mount.Options{}},
		{"docker's bind", []string{"rbind", "rprivate", "ro"}, mount.Options{
			Bind: true, Recursive: true,
			Attr:          mount.Attr{Set: unix.MOUNT_ATTR_RDONLY},
			RecursiveAttr: mount.Attr{Propagation: unix.MS_PRIVATE},
		}},
		{"recursively read-only", []string{"rbind", "rro"}, mount.Options{
			Bind: true, Recursive: true, RecursiveAttr: mount.Attr{Set: unix.MOUNT_ATTR_RDONLY},
		}},
		{"the last word counts", []string{"ro", "rw", "noexec", "exec", "suid", "nosuid"}, mount.Options{
			Attr: mount.Attr{Set: unix.MOUNT_ATTR_NOSUID, Clear: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOEXEC},
		}},
		{"atime is a field", []string{"noatime", "strictatime"}, mount.Options{
			Attr: mount.Attr{Set: unix.MOUNT_ATTR_STRICTATIME, Clear: unix.MOUNT_ATTR__ATIME},
		}},
		{"tmpfs", []string{"nosuid", "mode=1777", "size=64m", "tmpcopyup"}, mount.Options{
			Attr: mount.Attr{Set: unix.MOUNT_ATTR_NOSUID}, Data: []string{"mode=1777", "size=64m"}, CopyUp: true,
		}},
		{"slave alone", []string{"bind", "slave"}, mount.Options{Bind: true, Attr: mount.Attr{Propagation: unix.MS_SLAVE}}},
		{"consistency flags say nothing", []string{"bind", "consistent", "cached", "z"}, mount.Options{Bind: true}},
		{"unknown goes to the filesystem", []string{"hidepid=2", "r"}, mount.Options{Data: []string{"hidepid=2", "r"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, mount.ParseOptions(tt.in)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTargetStaysInRoot(t *testing.T) {
	host := t.TempDir()
	root := filepath.Join(host, "root")
	must(t, os.Mkdir(root, 0o755))
	must(t, os.Mkdir(filepath.Join(host, "outside"), 0o755))
	must(t, os.Symlink(filepath.Join(host, "outside"), filepath.Join(root, "absolute")))
	must(t, os.Symlink("../outside", filepath.Join(root, "relative")))
	must(t, os.Symlink("/proc/self/root", filepath.Join(root, "magic")))
	must(t, os.WriteFile(filepath.Join(root, "file"), nil, 0o644))
	dir, err := os.Open(root)
	must(t, err)
	defer dir.Close()

	tests := []struct {
		name, target string
		isFile       bool
		want         error
	}{
		{"new directory", "/a/b/c", false, nil},
		{"new file", "/d/e", true, nil},
		{"dot dot stops at the root", "../../../x", false, nil},
		{"absolute link", "/absolute/x", false, unix.ENOENT},
		{"relative link", "/relative/x", false, unix.ENOENT},
		{"file where a directory is due", "/file", false, unix.ENOTDIR},
		{"directory where a file is due", "/a", true, unix.ENOTDIR},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := mount.Target(dir, tt.target, tt.isFile)
			if err == nil {
				f.Close()
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("Target(%q) error = %v, want %v", tt.target, err, tt.want)
			}
		})
	}
	if got, _ := os.ReadDir(filepath.Join(host, "outside")); len(got) != 0 {
		t.Errorf("%d entries were made outside of the root", len(got))
	}
	if _, err := os.Stat(filepath.Join(root, "x")); err != nil {
		t.Errorf("../../../x is not in the root: %v", err)
	}
}

func TestOverlay(t *testing.T) {
	base := t.TempDir()
	var lower []string
	for i := range 130 {
		name := filepath.Join("layers", string(rune('a'+i%26))+":,\\"+string(rune('a'+i/26)))
		must(t, os.MkdirAll(filepath.Join(base, name), 0o755))
		lower = append(lower, name)
	}
	must(t, os.WriteFile(filepath.Join(base, lower[0], "which"), []byte("top"), 0o644))
	must(t, os.WriteFile(filepath.Join(base, lower[129], "which"), []byte("bottom"), 0o644))
	must(t, os.WriteFile(filepath.Join(base, lower[129], "only"), []byte("bottom"), 0o644))
	must(t, os.MkdirAll(filepath.Join(base, "upper,:dir"), 0o755))
	must(t, os.MkdirAll(filepath.Join(base, "work"), 0o755))
	dir, err := os.Open(base)
	must(t, err)
	defer dir.Close()

	m, err := mount.Overlay(mount.OverlayOptions{Base: dir, Lower: lower, Upper: "upper,:dir", Work: "work"})
	must(t, err)
	defer m.Close()
	for name, want := range map[string]string{"which": "top", "only": "bottom"} {
		f, err := mount.OpenInRoot(m, name, os.O_RDONLY, 0)
		must(t, err)
		got := make([]byte, 16)
		n, _ := f.Read(got)
		f.Close()
		if string(got[:n]) != want {
			t.Errorf("%s = %q, want %q", name, got[:n], want)
		}
	}
	f, err := mount.OpenInRoot(m, "new", os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	f.Close()
	if _, err := os.Stat(filepath.Join(base, "upper,:dir", "new")); err != nil {
		t.Errorf("a new file is not in the upper layer: %v", err)
	}
}

func TestOverlayOfAsManyLayersAsThereMayBe(t *testing.T) {
	base := t.TempDir()
	var lower []string
	for i := range mount.MaxLower + 1 {
		name := strconv.Itoa(i)
		must(t, os.Mkdir(filepath.Join(base, name), 0o755))
		lower = append(lower, name)
	}
	dir, err := os.Open(base)
	must(t, err)
	defer dir.Close()
	m, err := mount.Overlay(mount.OverlayOptions{Base: dir, Lower: lower[1:]})
	must(t, err)
	must(t, m.Close())
	_, err = mount.Overlay(mount.OverlayOptions{Base: dir, Lower: lower})
	if !errors.Is(err, unix.E2BIG) || !strings.Contains(err.Error(), "max depth exceeded") {
		t.Errorf("one more: %v", err)
	}
}

func TestNewExplains(t *testing.T) {
	_, err := mount.New("tmpfs", "tmpfs", []string{"size=lots"}, 0)
	if !errors.Is(err, unix.EINVAL) {
		t.Fatalf("New() error = %v, want EINVAL", err)
	}
	if want := `set size=lots on tmpfs: invalid argument (tmpfs: Bad value for 'size')`; err.Error() != want {
		t.Errorf("error = %q\nwant    %q", err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestOpenRegular: whatever lies at a name, opening it has no effect and ends.
func TestOpenRegular(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o644))
	must(t, os.Symlink("file", filepath.Join(dir, "link")))
	must(t, os.Symlink(filepath.Join(dir, "file"), filepath.Join(dir, "outside")))
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	root, err := os.Open(dir)
	must(t, err)
	defer root.Close()
	for name, want := range map[string]error{
		"file": nil, "link": nil, "outside": unix.ENOENT, "pipe": mount.ErrNotRegular, "dir": mount.ErrNotRegular, "none": unix.ENOENT,
	} {
		f, err := mount.OpenRegular(root, name)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err == nil {
			f.Close()
		}
	}
}
