package image

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/portholehq/porthole/internal/ledger"
)

// orphans are the paths that the store does not claim.
func orphans(t *testing.T, s *Store, meter *ledger.Meter) []string {
	t.Helper()
	l, err := ledger.Take(t.Context(), s.root, meter, s.Claims)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, a := range l.Accounts {
		if a.Owner == ledger.Orphan {
			paths = append(paths, a.Path)
		}
	}
	return paths
}

// What is being loaded is on the disk before the database has it. It is no orphan then: somebody might prune it, and the
// database would have an image without its files.
func TestClaimsWhileLoading(t *testing.T) {
	s := open(t)
	meter := ledger.NewMeter()
	defer meter.Close()
	var archives [][]byte
	for n := range 40 {
		l := &layout{t: t}
		l.name(fmt.Sprintf("app:%d", n), l.image(small(t, fmt.Sprintf("image %d", n))))
		archives = append(archives, l.archive())
	}
	loaded := make(chan error, 1)
	go func() {
		for _, a := range archives {
			if _, err := s.Load(t.Context(), bytes.NewReader(a), LoadOptions{}, nil); err != nil {
				loaded <- err
				return
			}
		}
		loaded <- nil
	}()
	for {
		if found := orphans(t, s, meter); len(found) > 0 {
			t.Fatalf("orphans: %q", found)
		}
		select {
		case err := <-loaded:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

// What the database does not know after a while is nobody's.
func TestClaimsSettled(t *testing.T) {
	s := open(t)
	blob, layer := "content/blobs/sha256/"+fmt.Sprintf("%064d", 1), "layers/overlay/snapshots/999"
	if err := os.WriteFile(filepath.Join(s.root, blob), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(s.root, layer), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		settled time.Time
		want    bool
	}{{time.Now().Add(-settling), true}, {time.Now().Add(settling), false}} {
		list, err := s.claims(t.Context(), c.settled)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{blob, layer} {
			if got := slices.ContainsFunc(list, func(l ledger.Claim) bool { return l.Path == path && l.Owner == ledger.Unfinished }); got != c.want {
				t.Errorf("%s is claimed: %v, want %v", path, got, c.want)
			}
		}
	}
}
