package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"github.com/portholehq/porthole/internal/testenv"
)

func TestMain(m *testing.M) {
	// containerd says there what it has no context for.
	logrus.SetOutput(io.Discard)
	if dir := os.Getenv("IMAGE_CRASH_TEST"); dir != "" {
		crashLoop(dir)
	}
	os.Exit(m.Run())
}

func openAt(t testing.TB, root string, limits Limits) *Store {
	t.Helper()
	testenv.NeedsRoot(t)
	// A test must not depend on how full the machine's disk is.
	if limits.KeepFree == 0 {
		limits.KeepFree = 1
	}
	s, err := Open(t.Context(), Options{Root: root, Limits: limits, Platform: ocispec.Platform{}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// open opens a new store that is closed with the test.
func open(t testing.TB) *Store {
	t.Helper()
	s := openAt(t, t.TempDir(), Limits{})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func load(t testing.TB, s *Store, archive []byte) []Loaded {
	t.Helper()
	loaded, err := s.Load(t.Context(), bytes.NewReader(archive), LoadOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// messages collects what Load prints.
func messages(list *[]string) func(jsonstream.Message) {
	return func(m jsonstream.Message) {
		if m.Stream != "" {
			*list = append(*list, strings.TrimSuffix(m.Stream, "\n"))
		}
	}
}

// inventory lists all that a store holds: files outside of the databases, and
// the databases' entries.
func inventory(t testing.TB, s *Store) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch name := strings.TrimPrefix(path, s.root); name {
		case "/content/ingest", "/layers/overlay/metadata.db": // made when they are needed first
		default:
			list = append(list, "file "+name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := s.in(t.Context())
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	records, err := s.images.List(ctx)
	check(err)
	for _, r := range records {
		list = append(list, "image "+r.Name+" "+r.Target.Digest.String())
	}
	leaseList, err := s.leases.List(ctx)
	check(err)
	for _, l := range leaseList {
		list = append(list, "lease "+l.ID)
	}
	check(s.content.Walk(ctx, func(i content.Info) error {
		list = append(list, "blob "+i.Digest.String())
		return nil
	}))
	check(s.snapshot.Walk(ctx, func(_ context.Context, i snapshots.Info) error {
		list = append(list, "snapshot "+i.Name)
		return nil
	}))
	statuses, err := s.content.ListStatuses(ctx)
	check(err)
	for _, st := range statuses {
		list = append(list, "ingest "+st.Ref)
	}
	slices.Sort(list)
	return list
}

func TestOpenTwice(t *testing.T) {
	s := open(t)
	if _, err := Open(t.Context(), Options{Root: s.root}); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("second open: %v", err)
	}
}

func TestReopenKeepsImages(t *testing.T) {
	root := t.TempDir()
	s := openAt(t, root, Limits{})
	load(t, s, ociArchive(t, "a:1", small(t, "one")))
	before, err := s.List(t.Context(), ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.uncleanMark()); err == nil {
		t.Error("store is marked unclean after Close")
	}
	s = openAt(t, root, Limits{})
	defer s.Close()
	after, err := s.List(t.Context(), ListOptions{})
	if err != nil || len(after) != 1 || after[0].ID != before[0].ID {
		t.Errorf("after reopening: %v, %v; want %v", after, err, before)
	}
	img, err := s.Resolve(t.Context(), "a:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateRootFS(t.Context(), "c", img); err != nil {
		t.Error(err)
	}
}

// TestCloseWithoutMark: that the store was not closed is marked in a file; without one, as after a start on a full disk, it
// closes as well.
// TestProbeLeft has the content store be killed while it looks at the file system.
func TestProbeLeft(t *testing.T) {
	root := t.TempDir()
	probe := filepath.Join(root, "content", ".fsverity-check-12")
	if err := errors.Join(os.MkdirAll(probe, 0o700), os.WriteFile(filepath.Join(probe, "supported"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	openAt(t, root, Limits{})
	if _, err := os.Stat(probe); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left is there: %v", err)
	}
}

func TestCloseWithoutMark(t *testing.T) {
	s := openAt(t, t.TempDir(), Limits{})
	s.background.Wait()
	if err := os.Remove(s.uncleanMark()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
