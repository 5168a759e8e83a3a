package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tree makes files of a size below root; a name with a slash at its end is a directory, "a=b" a further name of a file.
func tree(t *testing.T, root string, files map[string]int) {
	t.Helper()
	for name, size := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, bytes.Repeat([]byte("x"), size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// du is what du(1) says.
func du(t *testing.T, dir string) int64 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "du", "-sx", "--block-size=1", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTree(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]int{"a": 5, "d/b": 70_000, "d/e/": 0})
	if err := os.Link(filepath.Join(root, "a"), filepath.Join(root, "d", "also-a")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(root, "a"), 1<<30); err != nil { // almost all of it a hole
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	got, err := Tree(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	want := Size{Disk: du(t, root), Apparent: 1<<30 + 70_000 + 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Tree(t.Context(), filepath.Join(root, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	file, err := Tree(t.Context(), filepath.Join(root, "d", "b"))
	if err != nil || file.Apparent != 70_000 {
		t.Errorf("a file alone is %+v, %v", file, err)
	}
}

// TestTreeDeep measures what has a longer path than the kernel takes.
func TestTreeDeep(t *testing.T) {
	root := t.TempDir()
	name := strings.Repeat("d", 200)
	dir, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		if err := dir.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := dir.OpenRoot(name)
		if err != nil {
			t.Fatal(err)
		}
		_ = dir.Close()
		dir = next
	}
	f, err := dir.Create("f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("12345"); err != nil {
		t.Fatal(err)
	}
	_, _ = f.Close(), dir.Close()
	got, err := Tree(t.Context(), root)
	if err != nil || got.Apparent != 5 || got.Unread != 0 || got.Disk != du(t, root) {
		t.Errorf("got %+v, %v; want 5 bytes in %d", got, err, du(t, root))
	}
}

func claimed(list ...Claim) func(context.Context) ([]Claim, error) {
	return func(context.Context) ([]Claim, error) { return list, nil }
}

// summary is owner, id, part and path of all accounts.
func summary(l *Ledger) []string {
	var out []string
	for _, a := range l.Accounts {
		out = append(out, fmt.Sprintf("%s %s %s %s", a.Owner, a.ID, a.Part, a.Path))
	}
	return out
}

func TestTake(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]int{
		"c/one/state": 10, "c/one/log/1": 50_000, "c/one/log/2": 20_000, "c/lost/x": 5, "db": 100, "empty/": 0,
		"layers/1/fs/x": 9000, "layers/1/scratch/": 0, "stray": 7,
	})
	meter := NewMeter()
	defer meter.Close()
	inner, err := Tree(t.Context(), filepath.Join(root, "layers/1/fs"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := Take(t.Context(), root, meter, claimed(
		Structure("c"), Structure("empty"),
		Claim{Path: "c/one", Owner: Container, ID: "one", Part: "state"},
		Claim{Path: "c/one/log", Owner: Container, ID: "one", Part: "log"},
		Claim{Path: "db", Owner: Database},
		Claim{Path: "layers/1", Owner: Image, ID: "i"},
		Claim{Path: "layers/1/fs", Owner: Image, ID: "i", Disk: inner.Disk},
		Claim{Path: "none/such", Owner: Volume},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"image i  layers/1", "container one log c/one/log", "container one state c/one", "database   db",
		"daemon  directories .", "orphan   c/lost", "orphan   stray",
	}
	if diff := cmp.Diff(want, summary(l)); diff != "" {
		t.Error(diff)
	}
	if l.Total.Disk != du(t, root) {
		t.Errorf("total %d, du says %d", l.Total.Disk, du(t, root))
	}
	var sum int64
	for _, a := range l.Accounts {
		sum += a.Size.Disk
	}
	if sum != l.Total.Disk {
		t.Errorf("accounts add up to %d, the total is %d", sum, l.Total.Disk)
	}
}

// TestTakeWhileMade: what is claimed only after it was seen is no orphan.
func TestTakeWhileMade(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]int{"v/new/f": 10, "v/lost/f": 10})
	meter := NewMeter()
	defer meter.Close()
	asked := 0
	l, err := Take(t.Context(), root, meter, func(context.Context) ([]Claim, error) {
		list := []Claim{Structure("v")}
		if asked++; asked > 1 {
			list = append(list, Claim{Path: "v/new", Owner: Volume, ID: "new"})
		}
		return list, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"volume new  v/new", "daemon  directories .", "orphan   v/lost"}
	if diff := cmp.Diff(want, summary(l)); diff != "" {
		t.Error(diff)
	}
}

func TestMeter(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]int{"f": 10})
	m := NewMeter()
	defer m.Close()
	ctx := t.Context()
	first, at, err := m.Tree(ctx, ctx, root)
	if err != nil || first.Apparent != 10 || at.IsZero() {
		t.Fatalf("first: %+v at %v, %v", first, at, err)
	}

	// A size that cost much is remembered.
	m.mu.Lock()
	m.trees[root].took, m.trees[root].at = time.Second, time.Now()
	m.mu.Unlock()
	tree(t, root, map[string]int{"g": 10})
	if again, _, err := m.Tree(ctx, ctx, root); err != nil || again.Apparent != 10 {
		t.Errorf("remembered: %+v, %v", again, err)
	}

	// An old one is given to who does not want to wait, and measured.
	m.mu.Lock()
	m.trees[root].at = time.Now().Add(-time.Hour)
	m.mu.Unlock()
	for range cap(m.slots) {
		m.slots <- struct{}{}
	}
	impatient, cancel := context.WithCancel(ctx)
	cancel()
	if old, at, err := m.Tree(ctx, impatient, root); err != nil || old.Apparent != 10 || time.Since(at) < time.Hour {
		t.Errorf("impatient: %+v of %v, %v", old, at, err)
	}
	// One that is not known is waited for, but not beyond the caller's own end.
	if _, _, err := m.Tree(impatient, impatient, filepath.Join(root, "f")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for range cap(m.slots) {
		<-m.slots
	}
	if fresh, _, err := m.Tree(ctx, ctx, root); err != nil || fresh.Apparent != 20 {
		t.Errorf("fresh: %+v, %v", fresh, err)
	}
	if _, _, err := m.Tree(ctx, ctx, filepath.Join(root, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.trees) != 2 {
		t.Errorf("%d trees are remembered, want 2", len(m.trees))
	}
}
