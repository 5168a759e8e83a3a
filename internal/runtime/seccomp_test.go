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
			_, err := compileSeccomp(&tt.profile)
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
