package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPidsRoom(t *testing.T) {
	for _, tt := range []struct {
		name            string
		pidMax, threads string
		group           string // empty: the root has no limit
		room, all, each uint64
		by              string // without the directory
	}{
		{"ids", "32768", "192729", "", 32468, 28410, 14205, "kernel.pid_max"},
		{"threads", "4194304", "192729", "max", 192729, 168638, 84319, "kernel.threads-max"},
		{"inside of a group", "32768", "192729", "800", 800, 700, 350, "pids.max"},
		{"hardly any", "301", "192729", "", 1, 1, 0, "kernel.pid_max"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			settings, root := t.TempDir(), t.TempDir()
			for path, text := range map[string]string{
				filepath.Join(settings, "pid_max"): tt.pidMax, filepath.Join(settings, "threads-max"): tt.threads, filepath.Join(root, "pids.max"): tt.group,
			} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := pidsRoom(settings, root)
			if err != nil {
				t.Fatal(err)
			}
			got.By = strings.TrimPrefix(got.By, root+"/")
			if diff := cmp.Diff(PidsBounds{Room: tt.room, By: tt.by, All: tt.all, Each: tt.each, Apart: tt.each / 4}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPidsOf(t *testing.T) {
	b := PidsBounds{Each: 400, Apart: 100}
	for parent, want := range map[string]uint64{"/porthole": 400, "/porthole/web": 400, "porthole/": 400, "/porthole-2": 100, "/": 100, "slice/web": 100, "/x/porthole": 100} {
		if got := b.Of(parent, "/porthole"); got != want {
			t.Errorf("in %q: %d, want %d", parent, got, want)
		}
	}
}

func TestBoundPids(t *testing.T) {
	path := parent(t) + "-pids"
	tree, err := Detect() // what it keeps of the group is for this test alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Prune(path); err != nil {
			t.Error(err)
		}
	})
	root, ok := tree.controller("pids")
	if !ok {
		root = tree.v2
	}
	limit := func() string { return readLine(filepath.Join(root, path, "pids.max")) }

	b, err := tree.BoundPids(path)
	if unavailable := new(UnavailableError); errors.As(err, &unavailable) {
		t.Fatalf("a kernel without the controller: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if want := strconv.FormatUint(b.All, 10); limit() != want {
		t.Errorf("the limit is %s, want %s", limit(), want)
	}
	if err := tree.Prune(path); err != nil {
		t.Fatal(err)
	}
	if err := tree.Prepare(path); err != nil {
		t.Fatal(err)
	}
	if want := strconv.FormatUint(b.All, 10); limit() != want {
		t.Errorf("the limit of a group that was removed and made again is %s, want %s", limit(), want)
	}
	if err := writeFile(filepath.Join(root, path, "pids.max"), "77"); err != nil {
		t.Fatal(err)
	}
	if b, err = tree.BoundPids(path); err != nil || b.All != 77 || b.Each != 77 || limit() != "77" {
		t.Errorf("with a lower limit there: %+v, %v, and the kernel has %s", b, err, limit())
	}
	g := tree.Group(path + "/one")
	if _, err := g.Create(&Resources{}); err != nil {
		t.Fatal(err)
	}
	if left, limited := g.PidsLeft(); !limited || left != 77 {
		t.Errorf("%d are left, limited %v, want 77", left, limited)
	}
	if err := g.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
}
