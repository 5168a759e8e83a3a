package death

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/record/blackbox"
)

func box(call string) *blackbox.Kept {
	return &blackbox.Kept{
		Head:   blackbox.Head{Version: blackbox.Version, Since: epoch, Seen: 1},
		Events: []*api.TraceEvent{{Kind: api.TraceCall, Time: epoch, PID: 1, Call: call, Args: "()", Result: "0"}},
	}
}

func writeBox(t *testing.T, s *Store, r Record, call string) {
	t.Helper()
	if err := s.WriteCalls(&r, box(call)); err != nil {
		t.Fatal(err)
	}
	write(t, s, r)
}

func boxes(t *testing.T, dir string) int {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"+callsEnd))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestCalls: a box is found by its record, survives the store, and is no record itself.
func TestCalls(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	writeBox(t, s, at(1, "c1", 1, ""), "getpid")
	write(t, s, at(2, "c1", 2, ""))
	s = openStore(t, dir, Options{})
	var got []*blackbox.Kept
	for r, err := range s.List(Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		k, err := s.Calls(r)
		if r.Run == 2 {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("run 2: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, k)
	}
	if diff := cmp.Diff([]*blackbox.Kept{box("getpid")}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	bad := at(1, "../c1", 1, "")
	if err := s.WriteCalls(&bad, box("getpid")); err == nil {
		t.Error("a box was written for what is no id")
	}
}

// TestBoundOfCalls: the oldest boxes go before their records, and with them.
func TestBoundOfCalls(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{MaxCallBytes: 600, MaxAge: 24 * time.Hour})
	for n := range 12 {
		writeBox(t, s, at(n, "c", n, ""), "getpid")
	}
	lone := at(5, "lone", 1, "")
	if err := s.WriteCalls(&lone, box("getpid")); err != nil { // as by a daemon that was killed then
		t.Fatal(err)
	}
	if _, err := s.Prune(epoch.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	newest := at(11, "c", 11, "")
	if _, err := s.Calls(&newest); err != nil {
		t.Errorf("the newest: %v", err)
	}
	if got, records := boxes(t, dir), len(list(t, s, Query{})); got == 0 || got >= 12 || records != 12 {
		t.Errorf("%d boxes, %d records", got, records)
	}
	if _, err := s.Prune(epoch.Add(365 * 24 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
