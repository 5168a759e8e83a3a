package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/ledger"
	"github.com/portholehq/porthole/internal/testenv"
)

var testTime = time.Unix(1_000_000_000, 0)

func openStore(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *Store, name string) Info {
	t.Helper()
	v, err := s.Create(name, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func names(s *Store) (all []string) {
	for _, v := range s.List() {
		all = append(all, v.Name)
	}
	return all
}

func TestLifeCycle(t *testing.T) {
	root := filepath.Join(t.TempDir(), "volumes")
	s := openStore(t, root)
	labels := map[string]string{"tier": "db"}
	made, err := s.Create("data", CreateOptions{Labels: labels})
	if err != nil {
		t.Fatal(err)
	}
	labels["tier"] = "changed by the caller"
	if !made.Created || made.Path != filepath.Join(root, "data", "_data") || made.Anonymous {
		t.Errorf("new volume is %+v", made)
	}
	again, err := s.Create("data", CreateOptions{Labels: map[string]string{"other": "label"}})
	if err != nil || again.Created {
		t.Errorf("second Create: %+v, %v", again, err)
	}
	if err := os.WriteFile(filepath.Join(made.Path, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}

	s = openStore(t, root)
	got, err := s.Get("data")
	if err != nil {
		t.Fatal(err)
	}
	made.Created = false
	if diff := cmp.Diff(made, got); diff != "" {
		t.Errorf("after reopening (-want +got):\n%s", diff)
	}
	want := []ledger.Claim{{Path: "data", Owner: ledger.Volume, ID: "data", Name: "data"}}
	if claims, err := s.Claims(); err != nil || !cmp.Equal(claims, want) {
		t.Errorf("Claims = %+v, %v", claims, err)
	}
	if err := s.Remove("data"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("data"); !errdefs.IsNotFound(err) || err.Error() != "get data: no such volume" {
		t.Errorf("second Remove: %v", err)
	}
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("left on disk: %v", left)
	}
}

// TestNobodyPassesThrough: what containers make in volumes is for containers.
func TestNobodyPassesThrough(t *testing.T) {
	root := filepath.Join(t.TempDir(), "volumes")
	if err := os.Mkdir(root, 0o711); err != nil { // as older daemons made it
		t.Fatal(err)
	}
	openStore(t, root)
	if st, err := os.Stat(root); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory of volumes: %v, %v", st.Mode(), err)
	}
}

func TestAnonymous(t *testing.T) {
	s := openStore(t, t.TempDir())
	v, err := s.Create("", CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Name) != 64 || !v.Anonymous {
		t.Errorf("volume is %+v", v)
	}
	if _, ok := v.Labels[AnonymousLabel]; !ok {
		t.Errorf("labels are %v", v.Labels)
	}
}

func TestNames(t *testing.T) {
	s := openStore(t, t.TempDir())
	for name, want := range map[string]string{
		"a":       "volume name is too short, names should be at least two alphanumeric characters",
		"../x":    `"../x" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
		".hidden": `".hidden" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
		"a b":     `"a b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path`,
		"ok_1.x-": "",
	} {
		_, err := s.Create(name, CreateOptions{})
		if got := fmt.Sprint(err); want == "" && err != nil || want != "" && got != want {
			t.Errorf("Create(%q): %v, want %q", name, err, want)
		}
	}
}

func TestOpenClearsUp(t *testing.T) {
	root := t.TempDir()
	s := openStore(t, root)
	half := create(t, s, "half")
	create(t, s, "good")
	for _, dir := range []string{".new-1/_data", ".gone-2/_data/deep/er", "not a volume"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "damaged", "_data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.mark(s.volumes["half"]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half.Path, "part"), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	s = openStore(t, root)
	if diff := cmp.Diff([]string{"good", "half"}, names(s)); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	if left, _ := os.ReadDir(half.Path); len(left) != 0 {
		t.Errorf("half filled volume has %v", left)
	}
	if m, err := readMeta(filepath.Join(root, "half")); err != nil || m.Filling {
		t.Errorf("metadata of the half filled volume: %+v, %v", m, err)
	}
	for _, dir := range []string{".new-1", ".gone-2"} {
		if _, err := os.Lstat(filepath.Join(root, dir)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "damaged", "_data")); err != nil {
		t.Errorf("data of a damaged volume: %v", err)
	}
}

// image makes a tree with one of everything, as an image may have at /srv.
func image(t *testing.T) *os.File {
	t.Helper()
	root := t.TempDir()
	srv := filepath.Join(root, "real")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(srv, "sub"), 0o755))
	must(os.Symlink("/real", filepath.Join(root, "srv"))) // absolute, but of the image
	must(os.WriteFile(filepath.Join(srv, "sub", "file"), []byte("content"), 0o644))
	must(os.Chown(filepath.Join(srv, "sub", "file"), 999, 998))
	must(os.Chmod(filepath.Join(srv, "sub", "file"), 0o640|os.ModeSetuid))
	must(unix.Setxattr(filepath.Join(srv, "sub", "file"), "user.note", []byte("kept"), 0))
	must(os.Link(filepath.Join(srv, "sub", "file"), filepath.Join(srv, "second name")))
	must(os.Symlink("/etc/shadow", filepath.Join(srv, "link")))
	must(unix.Mknod(filepath.Join(srv, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(unix.Mkfifo(filepath.Join(srv, "pipe"), 0o622))
	must(os.Chmod(filepath.Join(srv, "pipe"), 0o622))
	must(os.WriteFile(filepath.Join(srv, "sparse"), nil, 0o600))
	must(os.Truncate(filepath.Join(srv, "sparse"), 8<<20))
	must(os.Chown(srv, 70, 71))
	must(os.Chmod(srv, 0o775|os.ModeSticky))
	for _, p := range []string{"sub/file", "sub", "sparse", ""} {
		must(os.Chtimes(filepath.Join(srv, p), testTime, testTime))
	}
	f, err := os.Open(root)
	must(err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// listing describes all files below dir.
func listing(t *testing.T, dir string) (lines []string) {
	t.Helper()
	inodes := make(map[uint64]string)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		line := fmt.Sprintf("%s mode %o owner %d:%d", rel, st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			line += " -> " + target
		case unix.S_IFREG:
			line += fmt.Sprintf(" size %d mtime %d", st.Size, st.Mtim.Sec)
			if st.Nlink > 1 && inodes[st.Ino] != "" {
				line += " is " + inodes[st.Ino]
			}
			inodes[st.Ino] = rel
			buf := make([]byte, 100)
			if n, err := unix.Getxattr(path, "user.note", buf); err == nil {
				line += " note " + string(buf[:n])
			}
			if st.Size < 100 {
				data, _ := os.ReadFile(path)
				line += " has " + string(data)
			}
		case unix.S_IFDIR:
			line += fmt.Sprintf(" mtime %d", st.Mtim.Sec)
		case unix.S_IFCHR:
			line += fmt.Sprintf(" device %d", st.Rdev)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func TestCopyUp(t *testing.T) {
	testenv.NeedsRoot(t)
	s := openStore(t, t.TempDir())
	v := create(t, s, "data")
	img := image(t)
	if err := s.CopyUp(t.Context(), "data", img, "/srv"); err != nil {
		t.Fatal(err)
	}
	want := listing(t, filepath.Join(img.Name(), "real"))
	if len(want) != 8 || !strings.Contains(strings.Join(want, "\n"), " is second name") {
		t.Fatalf("the image is not what it should be:\n%s", strings.Join(want, "\n"))
	}
	if diff := cmp.Diff(want, listing(t, v.Path)); diff != "" {
		t.Errorf("content (-image +volume):\n%s", diff)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(v.Path, "sparse"), &st); err != nil || st.Blocks > 64 {
		t.Errorf("sparse file has %d blocks, %v", st.Blocks, err)
	}

	// A volume with content stays as it is.
	if err := s.CopyUp(t.Context(), "data", img, "/"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, listing(t, v.Path)); diff != "" {
		t.Errorf("content after a second CopyUp (-image +volume):\n%s", diff)
	}
}

func TestCopyUpOfNothing(t *testing.T) {
	testenv.NeedsRoot(t)
	s := openStore(t, t.TempDir())
	v := create(t, s, "data")
	img := image(t)
	for _, path := range []string{"/no/such", "/real/second name", "/real/link"} {
		if err := s.CopyUp(t.Context(), "data", img, path); err != nil {
			t.Errorf("CopyUp of %s: %v", path, err)
		}
	}
	if got := listing(t, v.Path); len(got) != 1 {
		t.Errorf("volume has %v", got)
	}
	if err := s.CopyUp(t.Context(), "nope", img, "/srv"); !errdefs.IsNotFound(err) {
		t.Errorf("CopyUp to an unknown volume: %v", err)
	}
}

func TestCopyUpStaysInRoot(t *testing.T) {
	testenv.NeedsRoot(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for name, target := range map[string]string{"abs": outside, "rel": "../" + filepath.Base(outside), "magic": "/proc/self/root" + outside} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	s := openStore(t, t.TempDir())
	v := create(t, s, "data")
	for _, name := range []string{"/abs", "/rel", "/magic", "/../" + filepath.Base(outside)} {
		if err := s.CopyUp(t.Context(), "data", dir, name); err != nil {
			t.Errorf("CopyUp of %s: %v", name, err)
		}
		if got := listing(t, v.Path); len(got) != 1 {
			t.Fatalf("CopyUp of %s brought %v", name, got)
		}
	}
}

func TestCancelledCopyUpLeavesNothing(t *testing.T) {
	testenv.NeedsRoot(t)
	s := openStore(t, t.TempDir())
	v := create(t, s, "data")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("told to stop")
	cancel(why)
	if err := s.CopyUp(ctx, "data", image(t), "/srv"); !errors.Is(err, why) {
		t.Errorf("error %v, want %v", err, why)
	}
	if left, _ := os.ReadDir(v.Path); len(left) != 0 {
		t.Errorf("volume has %v", left)
	}
	if err := s.CopyUp(t.Context(), "data", image(t), "/srv"); err != nil {
		t.Errorf("second try: %v", err)
	}
	if left, _ := os.ReadDir(v.Path); len(left) == 0 {
		t.Error("second try brought nothing")
	}
}

// Containers that are created at once, as Compose does, with one new volume all
// find it filled, once.
func TestCopyUpAtOnce(t *testing.T) {
	testenv.NeedsRoot(t)
	s := openStore(t, t.TempDir())
	img := image(t)
	want := listing(t, filepath.Join(img.Name(), "real"))
	for round := range 20 {
		v := create(t, s, fmt.Sprintf("data%d", round))
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				if err := s.CopyUp(t.Context(), v.Name, img, "/srv"); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
				if diff := cmp.Diff(want, listing(t, v.Path)); diff != "" {
					t.Errorf("round %d (-image +volume):\n%s", round, diff)
				}
			})
		}
		wait.Wait()
		if t.Failed() {
			return
		}
	}
}

// A full disk at the end of the filling must not leave the note that says that
// the volume is half full: the next daemon would empty it, with what containers
// have written since.
func TestFillingEndsWithoutRoom(t *testing.T) {
	testenv.NeedsRoot(t)
	const pages = 16
	for n := 1; n <= pages; n++ {
		root, img := t.TempDir(), t.TempDir()
		if err := unix.Mount("tmpfs", root, "tmpfs", 0, fmt.Sprintf("size=%d", pages*os.Getpagesize())); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
		s := openStore(t, root)
		v := create(t, s, "data")
		if err := os.WriteFile(filepath.Join(img, "f"), make([]byte, n*os.Getpagesize()), 0o644); err != nil {
			t.Fatal(err)
		}
		dir, err := os.Open(img)
		if err != nil {
			t.Fatal(err)
		}
		err = s.CopyUp(t.Context(), "data", dir, "/")
		_ = dir.Close()
		if left, _ := os.ReadDir(v.Path); (err == nil) != (len(left) == 1) {
			t.Errorf("%d pages: %v, and the volume has %v", n, err, left)
		}
		written := filepath.Join(v.Path, "written")
		if err := os.Symlink("by a container", written); err != nil { // takes no page
			t.Fatal(err)
		}
		openStore(t, root)
		if _, err := os.Lstat(written); err != nil {
			t.Errorf("%d pages: what a container has written is lost: %v", n, err)
		}
		if _, err := os.Lstat(filepath.Join(root, "data", "volume.json.filled")); err == nil {
			t.Errorf("%d pages: a file is left", n)
		}
	}
}

// TestFailedCreateLeavesNoName breaks a creation at each of its writes: the name is free, now and for the next daemon.
func TestFailedCreateLeavesNoName(t *testing.T) {
	for _, point := range []string{"volume.write", "volume.sync"} {
		t.Run(point, func(t *testing.T) {
			root := t.TempDir()
			s := openStore(t, root)
			restore := failpoint.Fail(point, unix.EIO)
			defer restore()
			if _, err := s.Create("data", CreateOptions{}); !errors.Is(err, unix.EIO) {
				t.Fatalf("the creation says %v, want %v", err, unix.EIO)
			}
			if left, err := os.ReadDir(root); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			restore()
			if all := names(openStore(t, root)); len(all) != 0 {
				t.Errorf("the next daemon has %q", all)
			}
			if v := create(t, s, "data"); !v.Created {
				t.Errorf("the second creation is %+v, want a new volume", v)
			}
		})
	}
}
