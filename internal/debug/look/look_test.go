package look

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
)

func TestAddMaps(t *testing.T) {
	const table = `55e1 r--p 00000000 fd:00 11 /bin/app
55e2 r-xp 00001000 fd:00 11 /bin/app
7f01 r-xp 00000000 fd:00 12 /lib/my lib.so (deleted)
7f02 rw-p 00000000 00:00 0
7f03 rw-s 00000000 00:01 9 /dev/zero (deleted)
7f04 rw-p 00000000 00:00 0 [heap]
`
	found := map[string]*api.MappedFile{}
	addMaps(found, []byte(table), 1)
	addMaps(found, []byte(table), 6)
	got := map[string]api.MappedFile{}
	for _, m := range found {
		got[m.Path] = *m
	}
	want := map[string]api.MappedFile{
		"/bin/app":       {Path: "/bin/app", Executable: true, Inode: 11, Processes: []int{1, 6}},
		"/lib/my lib.so": {Path: "/lib/my lib.so", Deleted: true, Executable: true, Inode: 12, Processes: []int{1, 6}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRlimits(t *testing.T) {
	list, err := rlimits("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]api.Rlimit{}
	for _, l := range list {
		found[l.Name] = l
	}
	if l := found["open files"]; len(list) < 16 || l.Soft == "" || l.Hard == "" || l.Unit != "files" || found["nice priority"].Unit != "" {
		t.Errorf("%+v", list)
	}
}

func TestProfile(t *testing.T) {
	for _, tt := range []struct {
		privileged bool
		options    []string
		want       string
	}{
		{false, nil, "builtin"},
		{true, nil, "unconfined"},
		{true, []string{"seccomp=builtin"}, "builtin"},
		{false, []string{"label=disable", "seccomp:unconfined"}, "unconfined"},
		{false, []string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`}, "custom"},
	} {
		s := engine.Subject{Container: &state.Container{HostConfig: &container.HostConfig{Privileged: tt.privileged, SecurityOpt: tt.options}}}
		if got := profile(s, "builtin"); got != tt.want {
			t.Errorf("privileged %v, %q: %s, want %s", tt.privileged, tt.options, got, tt.want)
		}
	}
}

func TestModeText(t *testing.T) {
	for flags, want := range map[uint64]string{0o100000: "r", 0o100001: "w", 0o102002: "rw+a", 0o10100000: ""} {
		if got := modeText(flags); got != want {
			t.Errorf("modeText(%o) = %q, want %q", flags, got, want)
		}
	}
}
