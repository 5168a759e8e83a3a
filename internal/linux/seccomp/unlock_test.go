package seccomp

import (
	"testing"

	"github.com/portholehq/porthole/internal/linux/caps"
)

func TestUnlocking(t *testing.T) {
	f := Facts{Arch: "amd64", Kernel: KernelVersion{Kernel: 6, Major: 1}, Capabilities: caps.Default()}
	for call, want := range map[string]string{
		"unshare": "CAP_SYS_ADMIN", "mount": "CAP_SYS_ADMIN", "reboot": "CAP_SYS_BOOT", "init_module": "CAP_SYS_MODULE", "settimeofday": "CAP_SYS_TIME",
		"openat": "", "keyctl": "", "nosuch": "",
	} {
		got, ok := Unlocking(call, f)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v, %v; want %q", call, got, ok, want)
		}
	}
	f.Capabilities = append(f.Capabilities, "CAP_SYS_ADMIN")
	if got, ok := Unlocking("unshare", f); ok {
		t.Errorf("unshare, which is let through: %v", got)
	}
}
