package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

// crashLoop is the process that TestKilled kills: it uses the store in dir in
// all ways, for ever.
func crashLoop(dir string) {
	ctx := context.Background()
	fail := func(what string, err error) {
		fmt.Println(what, err)
		os.Exit(1)
	}
	s, err := Open(ctx, Options{Root: filepath.Join(dir, "store"), Limits: Limits{KeepFree: 1}})
	if err != nil {
		fail("open", err)
	}
	var archives [][]byte
	for _, name := range []string{"a.tar", "b.tar"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			fail("read", err)
		}
		archives = append(archives, data)
	}
	for n := 0; ; n++ {
		for _, a := range archives {
			if _, err := s.Load(ctx, bytes.NewReader(a), LoadOptions{}, nil); err != nil {
				fail("load", err)
			}
		}
		img, err := s.Resolve(ctx, "a")
		if err != nil {
			fail("resolve", err)
		}
		// Containers of former processes stay; their names must not clash.
		id := fmt.Sprintf("c%d-%d", os.Getpid(), n)
		if _, err := s.CreateRootFS(ctx, id, img); err != nil {
			fail("create", err)
		}
		if err := s.Tag(ctx, "b", "c:1"); err != nil {
			fail("tag", err)
		}
		if _, err := s.Remove(ctx, "a", RemoveOptions{Force: true}); err != nil {
			fail("remove", err)
		}
		if n%2 == 0 {
			if err := s.RemoveRootFS(ctx, id); err != nil {
				fail("remove rootfs", err)
			}
		}
		if _, err := s.Remove(ctx, img.ID, RemoveOptions{Force: true}); err != nil && !errdefs.IsNotFound(err) {
			fail("remove", err)
		}
		if n%3 == 2 {
			if _, err := s.Prune(ctx, PruneOptions{Filters: Filters{"dangling": {"false"}}}); err != nil {
				fail("prune", err)
			}
		}
	}
}

// A process that is killed at any point leaves a store that opens, whose
// images and containers are whole, and in which nothing is lost.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "store")
	s := openAt(t, root, Limits{})
	pristine := inventory(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	two := small(t, "b")
	two.layers = append(two.layers, tarOf(t, file{name: "more", data: strings.Repeat("x", 1<<20)}))
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "a.tar"), ociArchive(t, "a", small(t, "a")), 0o600),
		os.WriteFile(filepath.Join(dir, "b.tar"), ociArchive(t, "b", two), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for i := range rounds {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "IMAGE_CRASH_TEST="+dir)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Other moments in every round, over some turns of the loop.
		<-time.After(time.Duration(60+37*i) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		if err := cmd.Wait(); out.Len() > 0 {
			t.Fatalf("round %d: %v: %s", i, err, out.String())
		}
		s := openAt(t, root, Limits{})
		checkWhole(t, s)
		if i%4 == 3 {
			empty(t, s)
			after := slices.DeleteFunc(inventory(t, s), func(l string) bool { return l == "lease "+holdingLease })
			if diff := cmp.Diff(pristine, after); diff != "" {
				t.Errorf("round %d: emptied store (-pristine +after)\n%s", i, diff)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What was made on disk after the moment that databases are put back to is in the
// way of nothing, also if the mark that a store is open was lost with the machine.
func TestPutBack(t *testing.T) {
	old := filepath.Join(t.TempDir(), "store")
	s := openAt(t, old, Limits{})
	if _, err := s.snapshot.Prepare(s.in(t.Context()), "before", ""); err != nil {
		t.Fatal(err)
	}
	end := s.flushes.Begin()
	if _, err := s.snapshot.Prepare(s.in(t.Context()), "after", ""); err != nil {
		t.Fatal(err)
	}
	root := cutPower(t, old)
	if err := errors.Join(end(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(root, "unclean")); err != nil {
		t.Fatal(err)
	}
	s = openPutBack(t, root)
	if _, err := s.snapshot.Prepare(s.in(t.Context()), "again", ""); err != nil {
		t.Errorf("make a layer: %v", err)
	}
}

// cutPower copies a store that is open, so that the copy is as after a crash of the machine.
func cutPower(t *testing.T, old string) (root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "store")
	if out, err := exec.Command("cp", "-a", old, root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	changeBoot(t, filepath.Join(root, "flushed"))
	return root
}

func openPutBack(t *testing.T, root string) *Store {
	t.Helper()
	s := openAt(t, root, Limits{})
	t.Cleanup(func() { _ = s.Close() })
	if !s.flushes.Restored {
		t.Fatal("the databases were not put back")
	}
	return s
}

// A layer that a crash brings back has its directory, also if it was removed just before.
func TestPutBackRemoved(t *testing.T) {
	old := filepath.Join(t.TempDir(), "store")
	s := openAt(t, old, Limits{})
	ctx := s.in(t.Context())
	if _, err := s.snapshot.Prepare(ctx, "layer", "", snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "yes"})); err != nil {
		t.Fatal(err)
	}
	end := s.flushes.Begin()
	if err := s.snapshot.Remove(ctx, "layer"); err != nil {
		t.Fatal(err)
	}
	s.collect(ctx)
	if list, err := os.ReadDir(filepath.Join(old, "layers", "overlay", "snapshots")); err != nil || len(list) != 0 {
		t.Fatalf("%d layers are on disk after the removal, %v", len(list), err)
	}
	root := cutPower(t, old)
	if err := errors.Join(end(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openPutBack(t, root)
	mounts, err := s.snapshot.Mounts(s.in(t.Context()), "layer")
	if errdefs.IsNotFound(err) {
		return // that it was removed was on disk
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(strings.Replace(mounts[0].Source, old, root, 1)); err != nil {
		t.Errorf("the record is back, and not the directory: %v", err)
	}
}

// cleaner is a snapshotter that calls during while it removes directories.
type cleaner struct {
	snapshots.Snapshotter
	during func()
}

func (c cleaner) Remove(context.Context, string) error { return nil }

func (c cleaner) Cleanup(context.Context) error {
	c.during()
	return nil
}

// While directories without a record are removed, a record goes only once all that was committed before is on disk: its
// directory may go with them.
func TestRemoveDuringCleanup(t *testing.T) {
	old := filepath.Join(t.TempDir(), "store")
	s := openAt(t, old, Limits{})
	load(t, s, ociArchive(t, "a", small(t, "a")))
	img := mustResolve(t, s, "a")
	end := s.flushes.Begin()
	var root string
	snapshots := &flushedSnapshots{flushes: s.flushes, removed: func() {}}
	snapshots.Snapshotter = cleaner{during: func() {
		err := s.transactLater(s.in(t.Context()), func(ctx context.Context) error {
			_, err := s.setNameIn(ctx, "docker.io/library/during:1", img.Target)
			return err
		})
		if err := errors.Join(err, snapshots.Remove(t.Context(), "layer")); err != nil {
			t.Error(err)
		}
		root = cutPower(t, old)
	}}
	if err := errors.Join(snapshots.Cleanup(t.Context()), end(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := openPutBack(t, root).Resolve(t.Context(), "during:1"); err != nil {
		t.Error(err)
	}
}

// changeBoot makes a mark of flushes that of another kernel.
func changeBoot(t *testing.T, path string) {
	t.Helper()
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	id = bytes.TrimSpace(id)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const slot = 4096
	for at := 0; at < len(data); at += slot {
		line, _, _ := bytes.Cut(data[at:at+slot], []byte("\n"))
		if _, body, ok := bytes.Cut(line, []byte(" ")); ok {
			copy(body, bytes.ReplaceAll(body, id, bytes.Repeat([]byte("0"), len(id))))
			copy(line, fmt.Sprintf("%08x", crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))))
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkWhole looks at all images and containers.
func checkWhole(t *testing.T, s *Store) {
	t.Helper()
	records, err := s.images.List(s.in(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range records {
		c, err := s.contents(s.in(t.Context()), r.Target)
		if err != nil {
			t.Errorf("image %s: %v", r.Name, err)
			continue
		}
		id := fmt.Sprintf("check%d", i)
		layers, err := s.CreateRootFS(t.Context(), id, c.asImage(""))
		if err != nil {
			t.Errorf("image %s: %v", r.Name, err)
			continue
		}
		if _, err := os.Stat(filepath.Join(layers.Lower[len(layers.Lower)-1], "etc/text")); err != nil {
			t.Errorf("image %s: %v", r.Name, err)
		}
		if err := s.RemoveRootFS(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	ids, err := s.RootFSList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		layers, err := s.RootFS(t.Context(), id)
		if err != nil {
			t.Errorf("container %s: %v", id, err)
			continue
		}
		if _, err := os.Stat(filepath.Join(layers.Lower[0], "etc/text")); err != nil {
			t.Errorf("container %s: %v", id, err)
		}
	}
}

// empty removes all images and containers.
func empty(t *testing.T, s *Store) {
	t.Helper()
	list, err := s.List(t.Context(), ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		if _, err := s.Remove(t.Context(), i.ID, RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	ids, err := s.RootFSList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := s.RemoveRootFS(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	s.background.Wait()
}
