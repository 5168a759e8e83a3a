package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/ledger"
)

// mountOverlay mounts a root filesystem as the runtime does, without id maps.
func mountOverlay(t *testing.T, l Layers) string {
	t.Helper()
	dir := t.TempDir()
	options := "lowerdir=" + strings.Join(l.Lower, ":") + ",upperdir=" + l.Upper + ",workdir=" + l.Work
	if err := unix.Mount("overlay", dir, "overlay", 0, options); err != nil {
		t.Fatalf("mount overlay %s: %v", options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func createRootFS(t testing.TB, s *Store, id, ref string) Layers {
	t.Helper()
	l, err := s.CreateRootFS(t.Context(), id, mustResolve(t, s, ref))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// capability is security.capability of a file with cap_net_bind_service+ep,
// see capabilities(7).
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// What the layers of an image say about files is what a container sees.
func TestRootFSContent(t *testing.T) {
	s := open(t)
	bottom := tarOf(t,
		file{name: "./", mode: 0o750, uid: 7},
		file{name: "bin/"},
		file{name: "bin/su", data: "program", mode: 0o4755},
		file{name: "bin/hard", kind: tar.TypeLink, link: "bin/su", mode: 0o4755},
		file{name: "bin/soft", kind: tar.TypeSymlink, link: "/etc/passwd"},
		file{name: "bin/ping", data: "ping", xattrs: map[string]string{"security.capability": capability, "user.note": "hi"}},
		file{name: "owned", data: "x", uid: 1234, mode: 0o640},
		file{name: "gone", data: "x"},
		file{name: "opaque/"},
		file{name: "opaque/old", data: "x"},
		file{name: "dir/"},
		file{name: "dir/one", data: "1"},
		file{name: "tmp/", mode: 0o1777},
		file{name: "null", kind: tar.TypeChar, major: 1, minor: 3, mode: 0o666},
		file{name: "pipe", kind: tar.TypeFifo, mode: 0o600},
		file{name: "hidden", data: "x", xattrs: map[string]string{"trusted.overlay.redirect": "/etc", "user.overlay.opaque": "y"}},
	)
	top := tarOf(t,
		file{name: ".wh.gone"},
		file{name: "opaque/"},
		file{name: "opaque/.wh..wh..opq"},
		file{name: "opaque/new", data: "x"},
		file{name: "dir/two", data: "2"},
	)
	load(t, s, ociArchive(t, "img", testImage{layers: [][]byte{bottom, top}, packed: gzipOf}))
	layers := createRootFS(t, s, "c1", "img")
	for _, l := range append(slices.Clone(layers.Lower), layers.Upper, layers.Work) {
		if !strings.HasPrefix(l, layers.Base+"/") {
			t.Errorf("layer %q is not below %q", l, layers.Base)
		}
	}
	root := mountOverlay(t, layers)
	stat := func(name string) *syscall.Stat_t {
		t.Helper()
		info, err := os.Lstat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t)
	}
	for _, tt := range []struct {
		name string
		mode uint32
		uid  uint32
	}{
		{".", syscall.S_IFDIR | 0o750, 7},
		{"bin/su", syscall.S_IFREG | 0o4755, 0},
		{"owned", syscall.S_IFREG | 0o640, 1234},
		{"tmp", syscall.S_IFDIR | 0o1777, 0},
		{"null", syscall.S_IFCHR | 0o666, 0},
		{"pipe", syscall.S_IFIFO | 0o600, 0},
		{"bin/soft", syscall.S_IFLNK | 0o777, 0},
		{"dir", syscall.S_IFDIR | 0o755, 0},
	} {
		if st := stat(tt.name); st.Mode != tt.mode || st.Uid != tt.uid {
			t.Errorf("%s: mode %o, uid %d; want %o, %d", tt.name, st.Mode, st.Uid, tt.mode, tt.uid)
		}
	}
	if a, b := stat("bin/su"), stat("bin/hard"); a.Ino != b.Ino {
		t.Error("hard link is another file")
	}
	if st := stat("null"); st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("device %d", st.Rdev)
	}
	buf := make([]byte, 64)
	if n, err := unix.Getxattr(filepath.Join(root, "bin/ping"), "security.capability", buf); err != nil || string(buf[:n]) != capability {
		t.Errorf("capability %q, %v", buf[:max(n, 0)], err)
	}
	if _, err := unix.Getxattr(filepath.Join(layers.Lower[1], "hidden"), "trusted.overlay.redirect", buf); !errors.Is(err, unix.ENODATA) {
		t.Errorf("an image's attribute for overlayfs got through: %v", err)
	}
	var names []string
	for _, d := range []string{".", "opaque", "dir"} {
		entries, err := os.ReadDir(filepath.Join(root, d))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, filepath.Join(d, e.Name()))
		}
	}
	want := []string{"bin", "dir", "hidden", "null", "opaque", "owned", "pipe", "tmp", "opaque/new", "dir/one", "dir/two"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files (-want +got)\n%s", diff)
	}
	// What the container writes is in its own layer only.
	if err := os.WriteFile(filepath.Join(root, "dir/one"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(layers.Lower[1], "dir/one")); err != nil || string(data) != "1" {
		t.Errorf("image file is %q, %v", data, err)
	}
}

func TestRootFSOfImageWithoutLayers(t *testing.T) {
	s := open(t)
	load(t, s, ociArchive(t, "scratch", testImage{}))
	layers := createRootFS(t, s, "c1", "scratch")
	root := mountOverlay(t, layers)
	if err := os.WriteFile(filepath.Join(root, "f"), []byte("12345"), 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := s.RootFS(t.Context(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(layers, again); diff != "" {
		t.Errorf("(-created +found)\n%s", diff)
	}
	rw, err := ledger.Tree(t.Context(), s.RootFSDir("c1"))
	if below, baseErr := s.RootFSBaseSize(t.Context(), "c1"); err != nil || baseErr != nil || rw.Apparent != 5 || below != 0 {
		t.Errorf("size %+v on %d, %v, %v; want 5 on 0", rw, below, err, baseErr)
	}
}

func TestRootFSErrors(t *testing.T) {
	s := open(t)
	load(t, s, ociArchive(t, "img", small(t, "x")))
	createRootFS(t, s, "c1", "img")
	img := mustResolve(t, s, "img")
	if _, err := s.CreateRootFS(t.Context(), "c1", img); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second create: %v", err)
	}
	for _, id := range []string{"", "..", "../x", "a/b", ".new-x"} {
		if _, err := s.CreateRootFS(t.Context(), id, img); !errdefs.IsInvalidArgument(err) {
			t.Errorf("create %q: %v", id, err)
		}
		if _, err := s.RootFS(t.Context(), id); !errdefs.IsInvalidArgument(err) {
			t.Errorf("get %q: %v", id, err)
		}
		if err := s.RemoveRootFS(t.Context(), id); !errdefs.IsInvalidArgument(err) {
			t.Errorf("remove %q: %v", id, err)
		}
	}
	if _, err := s.RootFS(t.Context(), "c2"); !errdefs.IsNotFound(err) {
		t.Errorf("unknown container: %v", err)
	}
	if err := s.RemoveRootFS(t.Context(), "c2"); err != nil {
		t.Errorf("remove of unknown container: %v", err)
	}
	if s.rootfs[img.snapshot] != 1 {
		t.Errorf("%d writable layers are counted, want 1", s.rootfs[img.snapshot])
	}
}

// A container keeps its layers when its image is removed, over a restart too,
// and they go with the container.
func TestLayersOutliveImage(t *testing.T) {
	for _, restart := range []string{"", "after create", "after remove"} {
		t.Run("restart "+restart, func(t *testing.T) {
			root := t.TempDir()
			s := openAt(t, root, Limits{})
			defer func() { s.Close() }()
			reopen := func(when string) {
				if when == restart {
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					s = openAt(t, root, Limits{})
				}
			}
			before := inventory(t, s)
			load(t, s, ociArchive(t, "img", small(t, "x")))
			old := mustResolve(t, s, "img")
			createRootFS(t, s, "c1", "img")
			createRootFS(t, s, "c2", "img")
			reopen("after create")
			if _, err := s.Remove(t.Context(), "img", RemoveOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			reopen("after remove")
			if _, err := s.CreateRootFS(t.Context(), "c3", old); err != nil && !errdefs.IsNotFound(err) {
				t.Errorf("create on a removed image: %v", err)
			}
			if err := s.RemoveRootFS(t.Context(), "c3"); err != nil {
				t.Error(err)
			}
			if err := s.RemoveRootFS(t.Context(), "c1"); err != nil {
				t.Error(err)
			}
			s.background.Wait()
			layers, err := s.RootFS(t.Context(), "c2")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(layers.Lower[0], "etc/text")); err != nil {
				t.Error(err)
			}
			if err := s.RemoveRootFS(t.Context(), "c2"); err != nil {
				t.Error(err)
			}
			s.background.Wait()
			after := slices.DeleteFunc(inventory(t, s), func(l string) bool { return l == "lease "+holdingLease })
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("(-before +after)\n%s", diff)
			}
			if _, err := s.CreateRootFS(t.Context(), "c4", old); !errdefs.IsNotFound(err) {
				t.Errorf("create on a removed image: %v", err)
			}
		})
	}
}

// What a killed process left half done is put right when the store is opened.
func TestOpenClearsUp(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, Limits{})
	load(t, s, ociArchive(t, "img", small(t, "x")))
	createRootFS(t, s, "c1", "img")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(s.rootfsDir(), unfinished+"1/fs"), filepath.Join(s.trashDir(), "old/fs/deep")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	orphan := filepath.Join(root, "content/blobs/sha256", strings.Repeat("0", 64))
	stray := filepath.Join(root, "layers/overlay/snapshots/999/fs")
	// Killed before a write said what it is for, and after.
	nameless := filepath.Join(root, "content/ingest", strings.Repeat("1", 64))
	unsaid := filepath.Join(root, "content/ingest", strings.Repeat("2", 64))
	forgotten := filepath.Join(root, "content/ingest", digest.FromString("forgotten").Encoded())
	if err := errors.Join(os.WriteFile(orphan, nil, 0o600), os.MkdirAll(stray, 0o755), os.WriteFile(s.uncleanMark(), nil, 0o600),
		os.MkdirAll(nameless, 0o755), os.MkdirAll(unsaid, 0o755), os.MkdirAll(forgotten, 0o755),
		os.WriteFile(filepath.Join(unsaid, "ref"), nil, 0o600),
		os.WriteFile(filepath.Join(forgotten, "ref"), []byte("forgotten"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, root, Limits{})
	defer s.Close()
	s.background.Wait()
	for _, path := range []string{
		orphan, stray, nameless, unsaid, forgotten, filepath.Join(s.trashDir(), "old"), filepath.Join(s.rootfsDir(), unfinished+"1"),
	} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	if ids, err := s.RootFSList(t.Context()); err != nil || !cmp.Equal(ids, []string{"c1"}) {
		t.Errorf("writable layers: %v, %v", ids, err)
	}
	if _, err := s.RootFS(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
}

// Immutable files do not keep a container from going.
func TestRemoveImmutable(t *testing.T) {
	s := open(t)
	load(t, s, ociArchive(t, "img", small(t, "x")))
	layers := createRootFS(t, s, "c1", "img")
	path := filepath.Join(layers.Upper, "fixed")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, unix.STATX_ATTR_IMMUTABLE)
	f.Close()
	if err != nil {
		t.Logf("the file system of %s has no immutable files: %v", path, err)
		return
	}
	if err := s.RemoveRootFS(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	s.background.Wait()
	if entries, err := os.ReadDir(s.trashDir()); err != nil || len(entries) > 0 {
		t.Errorf("trash: %v, %v", entries, err)
	}
}

func TestRootFSInParallel(t *testing.T) {
	s := open(t)
	load(t, s, ociArchive(t, "img", small(t, "x")))
	before := inventory(t, s)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 4 {
				id := fmt.Sprintf("c%d-%d", i, j)
				img, err := s.Resolve(t.Context(), "img")
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.CreateRootFS(t.Context(), id, img); err != nil {
					t.Error(err)
				}
				if err := s.RemoveRootFS(t.Context(), id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.background.Wait()
	if diff := cmp.Diff(before, inventory(t, s)); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
}

func BenchmarkRootFS(b *testing.B) {
	s := open(b)
	layers := [][]byte{}
	for i := range 5 {
		layers = append(layers, tarOf(b, file{name: fmt.Sprintf("f%d", i), data: "x"}))
	}
	load(b, s, ociArchive(b, "img", testImage{layers: layers}))
	b.Run("create", func(b *testing.B) {
		n := 0
		for b.Loop() {
			n++
			createRootFS(b, s, fmt.Sprintf("c%d", n), "img")
		}
	})
	b.Run("create and remove", func(b *testing.B) {
		for b.Loop() {
			createRootFS(b, s, "x", "img")
			if err := s.RemoveRootFS(b.Context(), "x"); err != nil {
				b.Fatal(err)
			}
		}
	})
	// What a snapshot of containerd's would cost.
	b.Run("snapshot", func(b *testing.B) {
		ctx := s.in(b.Context())
		img := mustResolve(b, s, "img")
		n := 0
		for b.Loop() {
			n++
			key := fmt.Sprintf("s%d", n)
			if _, err := s.snapshot.Prepare(ctx, key, img.snapshot); err != nil {
				b.Fatal(err)
			}
			if err := s.snapshot.Remove(ctx, key); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestStayingRootFS: a writable layer that the disk does not let go of is removed with the next one.
func TestStayingRootFS(t *testing.T) {
	s := open(t)
	load(t, s, ociArchive(t, "img", small(t, "x")))
	for _, id := range []string{"c1", "c2", "c3"} {
		createRootFS(t, s, id, "img")
	}
	restore := failpoint.Fail("image.trash", unix.EIO)
	for _, id := range []string{"c1", "c1", "c2"} {
		if err := s.RemoveRootFS(t.Context(), id); !errors.Is(err, unix.EIO) {
			t.Errorf("the removal of %s says %v, want %v", id, err, unix.EIO)
		}
	}
	restore()
	if err := s.RemoveRootFS(t.Context(), "c3"); err != nil {
		t.Fatal(err)
	}
	if left, err := s.RootFSList(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A writable layer that nobody understands can be removed all the same.
func TestRemoveOddRootFS(t *testing.T) {
	s := open(t)
	load(t, s, ociArchive(t, "img", testImage{layers: [][]byte{tarOf(t, file{name: "a", data: "x"})}, packed: gzipOf}))
	for name, spoil := range map[string]func(base string) error{
		"base of an earlier layout": func(base string) error {
			return errors.Join(os.Remove(base), os.Symlink("other-sha256-0123", base))
		},
		"base is a file":        func(base string) error { return errors.Join(os.Remove(base), os.WriteFile(base, nil, 0o600)) },
		"base is missing":       os.Remove,
		"base is no layer here": func(base string) error { return errors.Join(os.Remove(base), os.Symlink(keyBase+"nosuch", base)) },
	} {
		t.Run(name, func(t *testing.T) {
			createRootFS(t, s, "odd", "img")
			if err := spoil(filepath.Join(s.rootfsDir(), "odd", "base")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.RootFS(t.Context(), "odd"); err == nil {
				t.Error("the odd layer was taken for a good one")
			}
			if err := s.RemoveRootFS(t.Context(), "odd"); err != nil {
				t.Error(err)
			}
			if left, err := s.RootFSList(t.Context()); err != nil || len(left) != 0 {
				t.Errorf("left: %v %v", left, err)
			}
		})
	}
}

// The layers of an image that a container mounts stay as long as the container.
func TestMountedImage(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, Limits{})
	load(t, s, ociArchive(t, "own", small(t, "own")))
	load(t, s, ociArchive(t, "other", small(t, "other")))
	other := mustResolve(t, s, "other")
	if _, err := s.CreateRootFS(t.Context(), "c1", mustResolve(t, s, "own"), other, other); err != nil {
		t.Fatal(err)
	}
	before, err := s.MountedImage(t.Context(), "c1", other.ID)
	if err != nil || before.Upper != "" || len(before.Lower) != 1 {
		t.Fatalf("layers %+v, %v", before, err)
	}
	if _, err := s.Remove(t.Context(), "other", RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // in this process and in the next
		after, err := s.MountedImage(t.Context(), "c1", other.ID)
		if diff := cmp.Diff(before, after); err != nil || diff != "" {
			t.Errorf("after the image went: %v (-before +after)\n%s", err, diff)
		}
		if _, err := os.Stat(after.Lower[0]); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openAt(t, root, Limits{})
	}
	defer s.Close()
	if err := s.RemoveRootFS(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	s.background.Wait()
	if _, err := os.Stat(before.Lower[0]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the layer stays without the container: %v", err)
	}
	if _, err := s.MountedImage(t.Context(), "c1", other.ID); !errdefs.IsNotFound(err) {
		t.Errorf("layers of no container: %v", err)
	}
	if _, err := s.CreateRootFS(t.Context(), "c2", mustResolve(t, s, "own"), other); !errdefs.IsNotFound(err) {
		t.Errorf("an image that is gone was mounted: %v", err)
	}
	if ids, err := s.RootFSList(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("writable layers %q, %v", ids, err)
	}
}
