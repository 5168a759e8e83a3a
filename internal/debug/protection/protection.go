// Package protection tells what protects the host from its containers, and what of that is off.
//
// [Look] judges the engine's facts and what the kernel says of itself. Who can come by the API is the daemon's to tell:
// it knows its listeners.
package protection

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/procfile"
)

// Look tells what protects the host. Nothing is changed by it, and nothing is waited for.
func Look(f engine.Facts, surrendered []engine.Surrender) api.InfoSecurity {
	out := api.InfoSecurity{Surrendered: []api.SecuritySurrender{}}
	out.Checks = []api.SecurityCheck{
		userNamespaces(f), seccomp(f), module(f), groups(f), processes(f), cgroupNamespaces(f), newPrivileges(f), daemonRights("/proc/self/status"),
		directory("data root", f.DataRoot, 0o700), directory("exec root", f.ExecRoot, 0o711),
	}
	for _, s := range surrendered {
		out.Surrendered = append(out.Surrendered, api.SecuritySurrender(s))
	}
	return out
}

func check(name string, state api.SecurityState, text, try string) api.SecurityCheck {
	return api.SecurityCheck{Name: name, State: state, Text: text, Try: try}
}

func userNamespaces(f engine.Facts) api.SecurityCheck {
	const name = "user namespaces"
	if f.NoUserNamespaces != nil {
		return check(name, api.SecurityOff, "root in a container is root of the host: "+f.NoUserNamespaces.Error(),
			"a newer kernel, or a data root on a filesystem with ID-mapped mounts")
	}
	return check(name, api.SecurityOn, fmt.Sprintf("one for each container, with %d ids of its own: root inside is nobody outside", f.IDsPerContainer), "")
}

func seccomp(f engine.Facts) api.SecurityCheck {
	const name = "seccomp"
	switch f.Seccomp {
	case "":
		return check(name, api.SecurityOff, "the kernel filters no system calls", "a kernel with CONFIG_SECCOMP_FILTER")
	case "unconfined":
		return check(name, api.SecurityOff, "containers that name no profile have none", "")
	}
	return check(name, api.SecurityOn, f.Seccomp+" profile", "")
}

// module tells of AppArmor, the only such module that containers are put under.
func module(f engine.Facts) api.SecurityCheck {
	const name = "security module"
	if f.AppArmorProfile != "" {
		return check(name, api.SecurityOn, "AppArmor, profile "+f.AppArmorProfile, "")
	}
	if f.NoAppArmor != nil {
		return check(name, api.SecurityOff, "AppArmor is on, but containers have no profile unless they name one: "+f.NoAppArmor.Error(), "a daemon that is started again after that is mended")
	}
	active, err := os.ReadFile("/sys/kernel/security/lsm")
	text := "the kernel has " + strings.TrimSpace(string(active)) + ", containers are not put under any of these"
	if err != nil {
		text = "the kernel shows none: " + err.Error()
	}
	return check(name, api.SecurityOff, text, "boot with AppArmor: lsm=...,apparmor")
}

func groups(f engine.Facts) api.SecurityCheck {
	const name = "control groups"
	text := f.CgroupMode + ", below " + f.CgroupParent
	if strings.Contains(f.CgroupMode, "v1") {
		return check(name, api.SecurityPartly, text+": release_agent is kept away by user namespaces alone", "boot with systemd.unified_cgroup_hierarchy=1")
	}
	return check(name, api.SecurityOn, text, "")
}

// processes tells whether containers can take the last process of the host, which ends whoever needs another thread.
func processes(f engine.Facts) api.SecurityCheck {
	const name = "processes"
	if f.NoPids != nil {
		return check(name, api.SecurityOff, "containers can take all that the host can have: "+f.NoPids.Error(), "--pids-limit, for each container")
	}
	return check(name, api.SecurityOn, fmt.Sprintf("all containers together can have %d, one without --pids-limit %d, with --cgroup-parent %d; the host %d, by %s", f.Pids.All, f.Pids.Each, f.Pids.Apart, f.Pids.Room, f.Pids.By), "")
}

func cgroupNamespaces(f engine.Facts) api.SecurityCheck {
	if !f.CgroupNamespaces {
		return check("cgroup namespaces", api.SecurityOff, "containers see the host's groups", "a kernel with CONFIG_CGROUPS")
	}
	return check("cgroup namespaces", api.SecurityOn, "containers see their own group alone", "")
}

func newPrivileges(f engine.Facts) api.SecurityCheck {
	const name = "no new privileges"
	if f.NoNewPrivileges {
		return check(name, api.SecurityOn, "set-user-ID programs give nothing, in containers that do not say otherwise", "")
	}
	return check(name, api.SecurityOff, "set-user-ID programs of images give the container's root, as with Docker",
		"--security-opt no-new-privileges, for each container")
}

// daemonRights tells which capabilities the daemon works with, see proc_pid_status(5).
func daemonRights(status string) api.SecurityCheck {
	const name = "daemon's capabilities"
	effective, err := effective(status)
	if err != nil {
		return check(name, api.SecurityUnknown, err.Error(), "")
	}
	last, err := caps.Last()
	if err != nil {
		return check(name, api.SecurityUnknown, err.Error(), "")
	}
	all := caps.Set(1)<<(last+1) - 1
	without := all &^ effective
	if without == 0 {
		return check(name, api.SecurityOn, fmt.Sprintf("all %d, as it has to have", last+1), "")
	}
	return check(name, api.SecurityOn, fmt.Sprintf("%d of %d, without %s", bits.OnesCount64(uint64(effective&all)), last+1, strings.Join(without.Names(), " ")), "")
}

func effective(status string) (caps.Set, error) {
	text, err := procfile.Read(status, procfile.Longest)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if value, ok := strings.CutPrefix(string(line), "CapEff:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return caps.Set(n), err
		}
	}
	return 0, errors.New(status + " has no CapEff")
}

// directory tells whether a directory of the daemon's can be listed or changed by others than root, or passed through where
// nobody has to. widest is the mode that it may have at most.
func directory(name, path string, widest fs.FileMode) api.SecurityCheck {
	check := api.SecurityCheck{Name: name}
	info, err := os.Stat(path)
	if err != nil {
		check.State, check.Text = api.SecurityUnknown, err.Error()
		return check
	}
	mode := info.Mode().Perm()
	check.State, check.Text = api.SecurityOn, fmt.Sprintf("%s, mode %04o", path, mode)
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && st.Uid != 0:
		check.State, check.Text = api.SecurityOff, fmt.Sprintf("%s is of uid %d", path, st.Uid)
		check.Try = "chown root " + path
	case mode&0o022 != 0:
		check.State, check.Text = api.SecurityOff, fmt.Sprintf("%s, mode %04o: others can change what is in it", path, mode)
		check.Try = "chmod go-w " + path
	case mode&0o044 != 0:
		check.State, check.Text = api.SecurityPartly, fmt.Sprintf("%s, mode %04o: others can list what is in it", path, mode)
		check.Try = fmt.Sprintf("chmod %04o %s", widest, path)
	case mode&^widest != 0:
		check.State, check.Text = api.SecurityPartly, fmt.Sprintf("%s, mode %04o: others can pass through it", path, mode)
		check.Try = fmt.Sprintf("chmod %04o %s", widest, path)
	}
	return check
}
