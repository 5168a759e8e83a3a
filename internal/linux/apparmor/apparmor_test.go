package apparmor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/linux/probe"
)

// host is a Host of the given files.
func host(t *testing.T, files map[string]string) Host {
	t.Helper()
	h := Host{Root: t.TempDir()}
	for name, text := range files {
		path := h.path(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

const (
	parameter = "/sys/module/apparmor/parameters/enabled"
	profiles  = "/sys/kernel/security/apparmor/profiles"
)

func TestEnabled(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"on", map[string]string{parameter: "Y\n", profiles: ""}, ""},
		{"not built", nil, "AppArmor not supported: the kernel is built without it"},
		{"off", map[string]string{parameter: "N\n"}, "AppArmor not supported: switched off at boot"},
		{"no securityfs", map[string]string{parameter: "Y\n"}, "AppArmor not supported: securityfs is not mounted on /sys/kernel/security"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := host(t, tt.files).Enabled()
			if got := text(err); got != tt.want {
				t.Errorf("Enabled() = %q, want %q", got, tt.want)
			}
			if tt.want != "" && !probe.IsUnsupported(err) {
				t.Error("that is not a no")
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestThisMachine holds that a machine gives an answer at all.
func TestThisMachine(t *testing.T) {
	err := Host{}.Enabled()
	if err != nil && !probe.IsUnsupported(err) {
		t.Fatal(err)
	}
	if err == nil {
		if _, err := (Host{}).Loaded(DefaultProfile); err != nil {
			t.Error(err)
		}
	}
}

func TestLoaded(t *testing.T) {
	h := host(t, map[string]string{profiles: "docker-default (enforce)\n/usr/bin/man (enforce)\nwith (odd) name (complain)\nporthole-default-not (enforce)\n"})
	for name, want := range map[string]bool{"docker-default": true, "/usr/bin/man": true, "with (odd) name": true, "porthole-default": false} {
		if got, err := h.Loaded(name); err != nil || got != want {
			t.Errorf("Loaded(%q) = %v, %v, want %v", name, got, err, want)
		}
	}
	if _, err := host(t, nil).Loaded("x"); err == nil || !strings.HasPrefix(err.Error(), "list AppArmor profiles: ") {
		t.Errorf("without securityfs: %v", err)
	}
}

// parser is a program that notes what it is given and behaves as told.
func parser(t *testing.T, h Host, script string) (Host, func() string) {
	t.Helper()
	dir := t.TempDir()
	h.Parser = filepath.Join(dir, "parser")
	body := "#!/bin/sh\necho \"$@\" >" + dir + "/noted\ncat >>" + dir + "/noted\n" + script + "\n"
	if err := os.WriteFile(h.Parser, []byte(body), 0o700); err != nil {
		t.Fatal(err)
	}
	return h, func() string {
		b, err := os.ReadFile(dir + "/noted")
		if os.IsNotExist(err) {
			return ""
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func TestEnsure(t *testing.T) {
	for _, tt := range []struct {
		name, loaded, script string
		parsed               bool
		want                 string // error
	}{
		{"not loaded", "other (enforce)\n", "", true, ""},
		{"loaded by somebody", "porthole-default (complain)\n", "exit 1", false, ""},
		{"refused", "", "echo syntax error in line 3 >&2; exit 1", true, "exit status 1: syntax error in line 3"},
		{"refused silently", "", "exit 4", true, "exit status 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, noted := parser(t, host(t, map[string]string{profiles: tt.loaded}), tt.script)
			err := h.Ensure(t.Context(), DefaultProfile)
			if tt.want == "" && err != nil || !strings.HasSuffix(text(err), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			want := ""
			if tt.parsed {
				profile, err := h.Profile(DefaultProfile)
				if err != nil {
					t.Fatal(err)
				}
				want = "-Kr\n" + profile
			}
			if diff := cmp.Diff(want, noted()); diff != "" {
				t.Errorf("what the parser was given (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoParser(t *testing.T) {
	h := host(t, map[string]string{profiles: ""})
	t.Setenv("PATH", t.TempDir())
	want := `load AppArmor profile "porthole-default": exec: "apparmor_parser": executable file not found in $PATH (is the package apparmor installed?)`
	if err := h.Ensure(t.Context(), DefaultProfile); text(err) != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
}

func TestProfile(t *testing.T) {
	bare, err := host(t, nil).Profile("p")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(bare, "@{PROC}=/proc/\n\nprofile p flags=(attach_disconnected,mediate_deleted) {\n  network,\n") {
		t.Errorf("beginning of a profile without includes:\n%.200s", bare)
	}
	if strings.Contains(bare, "include") || strings.Contains(bare, "abi <") {
		t.Errorf("includes that do not exist:\n%s", bare)
	}
	// As Docker's, except that signals come from no other runtime.
	want := []string{
		"network,", "deny network alg,", "capability,", "file,", "umount,",
		"signal (receive) peer=unconfined,", "signal (send,receive) peer=p,",
		"deny @{PROC}/* w,",
		"deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w,",
		"deny @{PROC}/sys/[^k]** w,", "deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,",
		"deny @{PROC}/sysrq-trigger rwklx,", "deny @{PROC}/kcore rwklx,",
		"deny mount,",
		"deny /sys/[^f]*/** wklx,", "deny /sys/f[^s]*/** wklx,", "deny /sys/fs/[^c]*/** wklx,",
		"deny /sys/fs/c[^g]*/** wklx,", "deny /sys/fs/cg[^r]*/** wklx,", "deny /sys/firmware/** rwklx,",
		"deny /sys/devices/virtual/powercap/** rwklx,", "deny /sys/kernel/security/** rwklx,",
		"ptrace (trace,read,tracedby,readby) peer=p,",
	}
	if diff := cmp.Diff(want, rules(bare)); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	full, err := host(t, map[string]string{
		"/etc/apparmor.d/abi/3.0": "", "/etc/apparmor.d/tunables/global": "", "/etc/apparmor.d/abstractions/base": "",
		"/proc/self/attr/current": "snap.porthole.portholed (enforce)\n",
	}).Profile("p")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		"abi <abi/3.0>,\n#include <tunables/global>\n\nprofile p ", "{\n  #include <abstractions/base>\n\n  network,",
		"  signal (receive) peer=snap.porthole.portholed,\n",
	} {
		if !strings.Contains(full, s) {
			t.Errorf("%q is missing in:\n%s", s, full)
		}
	}
}

// rules are the indented lines that are no comments.
func rules(profile string) []string {
	var list []string
	for line := range strings.Lines(profile) {
		rule := strings.TrimSpace(line)
		if strings.HasPrefix(line, "  ") && !strings.HasPrefix(rule, "#") {
			list = append(list, rule)
		}
	}
	return list
}

func TestNamesThatBreakOut(t *testing.T) {
	for _, name := range []string{"", "a b", "x flags=(complain) { file, } profile y", "a\nb", `"`} {
		if _, err := host(t, nil).Profile(name); err == nil {
			t.Errorf("profile %q was written", name)
		}
	}
}

func TestConfinement(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing there", nil, "unconfined"},
		{"unconfined", map[string]string{"/proc/self/attr/current": "unconfined\n"}, "unconfined"},
		{"of several modules", map[string]string{"/proc/self/attr/apparmor/current": "mine (enforce)\n", "/proc/self/attr/current": "system_u:system_r:init_t:s0\x00"}, "mine"},
		{"empty", map[string]string{"/proc/self/attr/current": ""}, "unconfined"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := host(t, tt.files).confinement(); got != tt.want {
				t.Errorf("confinement() = %q, want %q", got, tt.want)
			}
		})
	}
}
