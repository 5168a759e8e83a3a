package cgroup

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestClimb(t *testing.T) {
	root := t.TempDir()
	write := func(group, file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, group), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, group, file), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	number := func(n uint64) *uint64 { return &n }
	write("a/b", "memory.max", "300")
	write("a", "memory.max", "200")
	write("a", "memory.current", "50")
	write("a/b", "cpu.max", "50000 100000")
	write("a", "cpu.max", "max 100000")
	write("a/b", "cpu.cfs_quota_us", "-1")
	write("a/b", "cpu.cfs_period_us", "100000")
	write("a", "cpu.cfs_quota_us", "250000")
	write("a", "cpu.cfs_period_us", "100000")
	write("a/b", "pids.max", "max")
	write("a/b", "pids.current", "4")
	write("a/b", "memory.limit_in_bytes", "9223372036854771712")
	for _, tt := range []struct {
		c         ceiling
		file, use string
		want      Ceiling
	}{
		{ceilings[0], "memory.max", "memory.current", Ceiling{Name: "memory", Value: number(200), From: "/a", Use: number(50), Levels: []Level{{"/a/b", 300}, {"/a", 200}}}},
		{ceilings[0], "memory.limit_in_bytes", "", Ceiling{Name: "memory"}},
		{ceilings[4], "cpu.max", "", Ceiling{Name: "cpu", Value: number(500), From: "/a/b", Levels: []Level{{"/a/b", 500}}}},
		{ceilings[4], "cpu.cfs_quota_us", "", Ceiling{Name: "cpu", Value: number(2500), From: "/a", Levels: []Level{{"/a", 2500}}}},
		{ceilings[5], "pids.max", "pids.current", Ceiling{Name: "pids", Use: number(4)}},
	} {
		got, known, err := tt.c.climb(root, "/a/b", tt.file, tt.use)
		if err != nil || !known {
			t.Errorf("%s: known %v, %v", tt.file, known, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.file, diff)
		}
	}
	if _, known, err := ceilings[0].climb(root, "/a/b", "memory.high", ""); known || err != nil {
		t.Errorf("a controller that is not there: known %v, %v", known, err)
	}
}

func TestParseGroups(t *testing.T) {
	got := parseGroups("3:cpu,cpuacct:/x\n2:name=systemd:/s\n0::/x/y:z\n")
	if diff := cmp.Diff(map[string]string{"cpu": "/x", "cpuacct": "/x", "name=systemd": "/s", "": "/x/y:z"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestCeilingsOfThis(t *testing.T) {
	list, err := Ceilings(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if (c.Value == nil) != (len(c.Levels) == 0) || c.Value != nil && c.From == "" {
			t.Errorf("%+v", c)
		}
	}
}
