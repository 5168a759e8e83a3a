package runtime

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestSeccompNotification(t *testing.T) {
	rule := func(action specs.LinuxSeccompAction) []specs.LinuxSyscall {
		return []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: action}}
	}
	for _, tt := range []struct {
		name    string
		profile specs.LinuxSeccomp
		want    string // error; empty: it compiles
	}{
		{"no notification", specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rule(specs.ActErrno)}, ""},
		{"a rule", specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rule(specs.ActNotify)}, "seccomp: SCMP_ACT_NOTIFY is not supported for mkdir, mkdirat, because there is no listener"},
		{"the default", specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, "seccomp: SCMP_ACT_NOTIFY is not supported as default action, because there is no listener"},
		{"a listener", specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/run/agent"}, "seccomp: a notification listener is not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := new(filters).compile(&tt.profile)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("error %q, want %q", got, tt.want)
			}
			if tt.want != "" && !errdefs.IsNotImplemented(err) {
				t.Errorf("class of %v", err)
			}
		})
	}
}

// TestProfileID changes a profile in one place at a time.
func TestProfileID(t *testing.T) {
	one, two := uint(1), uint(2)
	seen := map[[32]byte]string{}
	for _, tt := range []struct {
		name    string
		profile specs.LinuxSeccomp
	}{
		{"empty", specs.LinuxSeccomp{}},
		{"action", specs.LinuxSeccomp{DefaultAction: specs.ActAllow}},
		{"errno", specs.LinuxSeccomp{DefaultErrnoRet: &one}},
		{"other errno", specs.LinuxSeccomp{DefaultErrnoRet: &two}},
		{"architecture", specs.LinuxSeccomp{Architectures: []specs.Arch{specs.ArchX86}}},
		{"no flags at all", specs.LinuxSeccomp{Flags: []specs.LinuxSeccompFlag{}}},
		{"flag", specs.LinuxSeccomp{Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}}},
		{"two names", specs.LinuxSeccomp{Syscalls: []specs.LinuxSyscall{{Names: []string{"a", "b"}}}}},
		{"one name", specs.LinuxSeccomp{Syscalls: []specs.LinuxSyscall{{Names: []string{"ab"}}}}},
		{"two rules", specs.LinuxSeccomp{Syscalls: []specs.LinuxSyscall{{Names: []string{"a"}}, {Names: []string{"b"}}}}},
		{"rule's errno", specs.LinuxSeccomp{Syscalls: []specs.LinuxSyscall{{Names: []string{"a", "b"}, ErrnoRet: &one}}}},
		{"argument", specs.LinuxSeccomp{Syscalls: []specs.LinuxSyscall{{Names: []string{"a", "b"}, Args: []specs.LinuxSeccompArg{{}}}}}},
		{"argument's value", specs.LinuxSeccomp{Syscalls: []specs.LinuxSyscall{{Names: []string{"a", "b"}, Args: []specs.LinuxSeccompArg{{ValueTwo: 1}}}}}},
	} {
		id := profileID(&tt.profile)
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have the same id", tt.name, other)
		}
		seen[id] = tt.name
	}
}
