package apparmor

import (
	"fmt"
	"os"
	"strings"
	"text/template"
)

// profile allows everything and then takes back: writing to what of /proc and
// /sys belongs to the host and not to a process of the container, and mounting.
// AppArmor has no rule for "but not below": hence the patterns that spell out
// each letter.
var profile = template.Must(template.New("profile").Parse(`
{{- if .ABI}}abi <abi/3.0>,
{{end}}
{{- if .Tunables}}#include <tunables/global>
{{else}}@{PROC}=/proc/
{{end}}
profile {{.Name}} flags=(attach_disconnected,mediate_deleted) {
{{- if .Abstractions}}
  #include <abstractions/base>
{{end}}
  network,
  # The kernel's crypto API has let users become root (https://copy.fail), and is
  # within reach of 32-bit programs whatever seccomp filters: socketcall(2) has
  # its arguments in memory.
  deny network alg,
  capability,
  file,
  umount,

  # From the host, from the engine and its shims, and from each other.
  signal (receive) peer=unconfined,
{{- if ne .Daemon "unconfined"}}
  signal (receive) peer={{.Daemon}},
{{- end}}
  signal (send,receive) peer={{.Name}},

  # Files of /proc itself; directories but /proc/PID and /proc/sys; of
  # /proc/sys all but /proc/sys/kernel/shm*.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  deny mount,

  # All of /sys but /sys/fs/cgroup.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,

  # ps, debuggers and the like, among the container's own processes.
  ptrace (trace,read,tracedby,readby) peer={{.Name}},
}
`))

// Profile returns the text of the default profile under a name. It depends on
// what the distribution has in /etc/apparmor.d and on the profile that this
// process runs under.
func (h Host) Profile(name string) (string, error) {
	daemon := h.confinement()
	for _, s := range []string{name, daemon} {
		// Where nothing needs to be quoted nothing can break out.
		if s == "" || strings.ContainsAny(s, " \t\r\n\"'{}[]()*?,#\\^@=") {
			return "", fmt.Errorf("write AppArmor profile: %q cannot be the name of one", s)
		}
	}
	has := func(name string) bool {
		_, err := os.Stat(h.path("/etc/apparmor.d/" + name))
		return err == nil
	}
	var b strings.Builder
	err := profile.Execute(&b, struct {
		Name, Daemon                string
		ABI, Tunables, Abstractions bool
	}{name, daemon, has("abi/3.0"), has("tunables/global"), has("abstractions/base")})
	if err != nil {
		return "", fmt.Errorf("write AppArmor profile: %w", err)
	}
	return b.String(), nil
}
