package cgroup

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestUpdateIsAllOrNothing changes limits of a group in which a process runs: one
// that cannot be set takes the others with it, and all can be taken back.
func TestUpdateIsAllOrNothing(t *testing.T) {
	g := newGroup(t, &Resources{Pids: &specs.LinuxPids{Limit: new(int64(5))}})
	spawn(t, g, App, "sleep", "60")
	texts := func() map[string]string {
		list, err := g.limits()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, f := range list {
			out[f.path] = f.text
		}
		return out
	}
	before := texts()
	if len(before) < 3 {
		t.Fatalf("limits: %v", before)
	}
	wanted := func(cpus string) *Resources {
		return &Resources{
			Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20))},
			Pids:   &specs.LinuxPids{Limit: new(int64(9))},
			CPU:    &specs.LinuxCPU{Quota: new(int64(20000)), Period: new(uint64(50000)), Cpus: cpus},
		}
	}
	if _, _, err := g.Update(wanted("4000")); err == nil {
		t.Error("a processor that is not there was taken")
	}
	if diff := cmp.Diff(before, texts()); diff != "" {
		t.Errorf("after an update that failed (-before +now):\n%s", diff)
	}
	undo, warnings, err := g.Update(wanted(""))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	for _, f := range []struct{ controller, v1, v2, want string }{
		{"memory", "memory.limit_in_bytes", "memory.max", "67108864"},
		{"pids", "pids.max", "pids.max", "9"},
		{"cpu", "cpu.cfs_quota_us", "cpu.max", "20000"},
	} {
		if got := strings.Fields(file(t, g, f.controller, f.v1, f.v2)); len(got) == 0 || got[0] != f.want {
			t.Errorf("%s is %v, want %s", f.v2, got, f.want)
		}
	}
	if err := undo(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, texts()); diff != "" {
		t.Errorf("after the undo (-before +now):\n%s", diff)
	}
}

func TestUpdateTellsWhatTheKernelMadeOfIt(t *testing.T) {
	g := newGroup(t, &Resources{})
	limits := []limitFile{{"/x/memory.limit_in_bytes", "4096"}, {"/x/memory.max", "4096"}, {"/x/pids.max", "7"}, {"/x/cpu.max", "2000 1000"}, {"/x/cpu.cfs_quota_us", "2000"}, {"/x/cpu.cfs_period_us", "1000"}}
	got := g.deviations(&Resources{
		Memory: &specs.LinuxMemory{Limit: new(int64(4097))}, // whole pages
		Pids:   &specs.LinuxPids{Limit: new(int64(8))},
		CPU:    &specs.LinuxCPU{Quota: new(int64(2000)), Period: new(uint64(3000))},
	}, limits)
	want := []Warning{"The kernel has made 1000 of the CPU period 3000.", "The kernel has made 7 of the pids limit 8."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
