package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/api"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Store, b *api.Build) {
	t.Helper()
	if err := s.Put(b); err != nil {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	s := open(t)
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	old := &api.Build{ID: "old", State: api.BuildDone, CreatedAt: at, Text: "FROM x", Steps: []api.BuildStep{{Number: 1}}}
	put(t, s, old)
	put(t, s, &api.Build{ID: "new", State: api.BuildRunning, CreatedAt: at.Add(time.Hour)})
	got, err := s.Get("old")
	if diff := cmp.Diff(old, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	again, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Store{"the same": s, "another": again} {
		list, err := s.List()
		if err != nil || len(list) != 2 || list[0].ID != "new" || list[1].ID != "old" || list[1].Text != "" || list[1].Steps != nil {
			t.Errorf("%s lists %v, %v", name, list, err)
		}
	}
	if err := s.Delete("old"); err != nil {
		t.Error(err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("left %v, %v", list, err)
	}
	for name, err := range map[string]error{"again": s.Delete("old"), "outside": s.Delete("../x")} {
		if !errdefs.IsNotFound(err) {
			t.Errorf("deleted %s: %v", name, err)
		}
	}
}

// IDs come from clients and are names of files.
func TestIDs(t *testing.T) {
	s := open(t)
	for _, id := range []string{"", ".", "..", "../x", "a/b", "a\x00", strings.Repeat("x", 101)} {
		if err := s.Put(&api.Build{ID: id}); err == nil {
			t.Errorf("%q was taken", id)
		}
		if _, err := s.Get(id); !errdefs.IsNotFound(err) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestRecover(t *testing.T) {
	s := open(t)
	put(t, s, &api.Build{ID: "done", State: api.BuildDone})
	put(t, s, &api.Build{ID: "broken", State: api.BuildRunning, Steps: []api.BuildStep{
		{Number: 1, State: api.BuildDone}, {Number: 2, State: api.BuildRunning}, {Number: 3, State: api.StepWaiting},
	}})
	if err := os.WriteFile(filepath.Join(s.dir, "damaged.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	left := []string{"broken.json.next", ".done.json.tmp123", ".done.inputs.tmp4"}
	for _, name := range left {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Recover(); err != nil {
		t.Fatal(err)
	}
	for _, name := range left {
		if _, err := os.Lstat(filepath.Join(s.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if !s.Has("broken") || !s.Has("damaged") || s.Has("none") || s.Has("../history") {
		t.Error("not the records that there are")
	}
	b, err := s.Get("broken")
	if err != nil || b.State != api.BuildInterrupted || b.EndedAt.IsZero() || b.Error == "" {
		t.Fatalf("%+v, %v", b, err)
	}
	var states []string
	for _, step := range b.Steps {
		states = append(states, step.State)
	}
	if diff := cmp.Diff([]string{api.BuildDone, api.BuildInterrupted, api.StepNotRun}, states); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if b, err := s.Get("done"); err != nil || b.State != api.BuildDone {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestTrim(t *testing.T) {
	s := open(t)
	now := time.Now()
	for i := range Most + 5 {
		id := "b" + time.Duration(i).String()
		put(t, s, &api.Build{ID: id, State: api.BuildRunning})
		at := now.Add(-time.Duration(i) * time.Minute)
		if i < 2 {
			at = now.Add(-Keep - time.Duration(i+1)*time.Hour)
		}
		if err := os.Chtimes(s.path(id), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Trim(now); err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) != Most {
		t.Fatalf("%d left, %v", len(list), err)
	}
	for _, id := range []string{"b0s", "b1ns"} {
		if _, err := s.Get(id); !errdefs.IsNotFound(err) {
			t.Errorf("%s is still there: %v", id, err)
		}
	}
}

func FuzzGet(f *testing.F) {
	f.Add([]byte(`{"Id":"x","State":"running","Steps":[{"Number":1}]}`))
	dir := f.TempDir()
	s, err := Open(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, "x.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := s.Get("x"); err == nil && b.ID != "x" {
			t.Errorf("ID %q", b.ID)
		}
	})
}

// Inputs are packed; those that were not, by earlier versions, are read as well.
func TestInputs(t *testing.T) {
	s := open(t)
	in := &Inputs{Steps: map[int]StepInputs{1: {Source: "x"}}, Files: map[string]*Files{"context": {Root: "r", List: map[string]File{}}}}
	for i := range 1000 {
		in.Files["context"].List[fmt.Sprintf("some/directory/file%d", i)] = File{Mode: 0o644, Size: 3, Digest: "0123456789abcdef"}
	}
	put(t, s, &api.Build{ID: "a"})
	if err := s.PutInputs("a", in); err != nil {
		t.Fatal(err)
	}
	got, err := s.Inputs("a")
	if diff := cmp.Diff(in, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	plain, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if size := s.inputsSize("a"); size == 0 || size > int64(len(plain))/4 {
		t.Errorf("%d bytes, plain %d", size, len(plain))
	}
	if err := os.WriteFile(filepath.Join(s.dir, "old"+inputsSuffix), plain, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err = s.Inputs("old")
	if diff := cmp.Diff(in, got); err != nil || diff != "" {
		t.Errorf("not packed: %v (-want +got):\n%s", err, diff)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "cut"+inputsSuffix), plain[:len(plain)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Inputs("cut"); err == nil {
		t.Error("a damaged file is taken")
	}
}

// The room that inputs take is bounded: those of the newest builds stay.
func TestTrimInputs(t *testing.T) {
	s := open(t)
	now := time.Now()
	for i, id := range []string{"newest", "second", "third"} {
		put(t, s, &api.Build{ID: id})
		name := filepath.Join(s.dir, id+inputsSuffix)
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, mostInputBytes/2),
			os.Chtimes(s.path(id), now, now.Add(-time.Duration(i)*time.Minute))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Trim(now); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"newest": true, "second": true, "third": false} {
		if got := s.inputsSize(id) > 0; got != want {
			t.Errorf("inputs of %s are kept: %v, want %v", id, got, want)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 3 {
		t.Errorf("records %v, %v", list, err)
	}
}
